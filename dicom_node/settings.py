"""Settings of the node: pydantic models, frozen, with unknown keys refused.

YAML files are merged in the order given, over the packaged defaults of ``config/``. Settings are
passed to whoever needs them; nothing imports a settings object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, IPvAnyNetwork, ValidationError, field_validator, model_validator

import dicom_node
from dicom_node.batch.settings import BatchSettings
from dicom_node.errors import ConfigurationError
from dicom_node.jobs.engine import DEFAULT_QUEUE
from dicom_node.operation_settings import (
    AlertSettings,
    AuditSettings,
    LogSettings,
    RetentionSettings,
    WebSettings,
)
from dicom_node.storage_settings import StorageSettings
from dicom_node.tls_settings import ListenerTls, PeerTls
from inference.clinical_settings import ClinicalSettings
from inference.model_settings import ModelSettings
from inference.settings import Frozen, Months, PipelineSettings, Regimen, SegmentationLimits

Queue = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]
"""Name of a queue of jobs."""
AETitle = str
"""1 to 16 printable ASCII characters without backslash, not only spaces (PS3.5 table 6.2-1)."""


def _ae_title(value: str) -> str:
    text = value.strip()
    if not 1 <= len(text) <= 16 or "\\" in text or not text.isascii() or not text.isprintable():
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash")
    return text


class ListenerSettings(Frozen):
    """The Storage SCP."""

    ae_title: AETitle = "HEPATOCAST"
    host: str = "127.0.0.1"
    port: int = Field(11112, ge=0, le=65535)
    allowed_calling_ae_titles: tuple[AETitle, ...] = Field(
        (), description="who may associate; the AE titles of the configured peers are added"
    )
    allow_any_calling_ae_title: bool = False
    allowed_addresses: tuple[IPvAnyNetwork, ...] = Field(
        (), description="who may connect at all, as addresses or CIDR networks; empty: everybody"
    )
    tls: ListenerTls | None = Field(None, description="DICOM TLS (PS3.15 annex B)")
    maximum_associations: int = Field(100, ge=1)
    maximum_connections_per_address: int = Field(100, ge=1)
    maximum_pdu_bytes: int = Field(131072, ge=4096)
    maximum_object_bytes: int = Field(2 * 1024**3, ge=1024**2)
    association_deadline_s: float = Field(10.0, gt=0, description="from connection to A-ASSOCIATE-RQ")
    pdu_deadline_s: float = Field(30.0, gt=0, description="from a PDU's first byte to its last")
    idle_deadline_s: float = Field(300.0, gt=0, description="between two PDUs of an association")
    maximum_buffered_bytes: int = Field(
        1024**3, ge=1024**2, description="data sets in memory, all associations together"
    )
    minimum_free_bytes: int = Field(2 * 1024**3, ge=0, description="below it: status 0xA700")

    _check_ae = field_validator("ae_title")(_ae_title)


class PeerSettings(Frozen):
    """A PACS or another node."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")
    ae_title: AETitle
    host: str
    port: int = Field(ge=1, le=65535)
    query: bool = Field(False, description="may be asked by C-FIND for what a study holds")
    retrieve: bool = Field(False, description="missing instances are fetched by C-GET, else C-MOVE")
    storage_commitment: bool = True
    dicomweb_url: str | None = Field(None, description="root of WADO-RS; read-back prefers it to C-GET")
    orthanc_url: str | None = Field(None, description="REST root, where the peer is an Orthanc")
    allowed_addresses: tuple[IPvAnyNetwork, ...] = Field(
        (), description="from where its AE title may associate, as addresses or CIDR networks"
    )
    tls: PeerTls | None = Field(None, description="DICOM TLS of the associations that we open")
    dimse_timeout_s: float = Field(20.0, gt=0)
    association_timeout_s: float = Field(10.0, gt=0)

    _check_ae = field_validator("ae_title")(_ae_title)


class AssemblySettings(Frozen):
    """When a study is complete."""

    series_quiet_period_s: float = Field(20.0, ge=0)
    study_quiet_period_s: float = Field(60.0, ge=0)
    maximum_wait_s: float = Field(
        3600.0, gt=0, description="after it a study that the PACS says is incomplete is HELD"
    )
    confirm_with: str | None = Field(None, description="name of the peer to ask by C-FIND")


class JobSettings(Frozen):
    """The job engine."""

    lease_s: float = Field(30.0, gt=0)
    heartbeat_s: float = Field(5.0, gt=0)
    maximum_attempts: int = Field(5, ge=1)
    backoff_s: tuple[float, ...] = (5.0, 30.0, 120.0, 600.0)
    time_limit_s: float = Field(1800.0, gt=0)
    queues: tuple[Queue, ...] = Field((), description="the workers of this machine serve; empty: all")

    @model_validator(mode="after")
    def _check(self) -> JobSettings:
        if self.heartbeat_s * 2 > self.lease_s:
            raise ValueError("heartbeat_s must be at most half of lease_s")
        return self


class OutboxSettings(Frozen):
    """Delivery of results."""

    backoff_s: tuple[float, ...] = (2.0, 10.0, 60.0, 300.0, 900.0)
    commitment_timeout_s: float = Field(60.0, gt=0)
    read_back: bool = True
    keep_delivered_days: float = Field(7.0, ge=0, description="verified files are removed after it")


class Outputs(StrEnum):
    """Kinds of result objects (keys of `reporting.outputs`)."""

    VIRTUAL_SERIES = "virtual_series"
    SEGMENTATION = "segmentation"
    AXES = "axes"
    REPORT = "report"
    CHARTS = "charts"
    PDF = "pdf"


class Action(StrEnum):
    """What a rule does with a study."""

    FORECAST = "forecast"
    IGNORE = "ignore"
    HOLD = "hold"


class Rule(Frozen):
    """One routing rule; the first whose expression is true applies."""

    name: str = Field(pattern=r"^[A-Za-z0-9 _.-]{1,64}$")
    when: str = Field(description="one CEL expression")
    action: Action = Action.FORECAST
    reason: str = ""
    regimens: tuple[str, ...] = ()
    months: Months = ()
    outputs: tuple[Outputs, ...] = tuple(Outputs)
    send_to: tuple[str, ...] = Field((), description="peer names; empty sends back to the sender")
    priority: int = Field(50, ge=0, le=100)
    queue: Queue = Field(
        DEFAULT_QUEUE, description="workers whose jobs.queues names it, or is empty, take it"
    )


class ReviewSettings(Frozen):
    """What happens with a program's outlines that are possible but doubtful."""

    send_proposal: bool = Field(True, description="the outlines go to the PACS, to be corrected there")


class NodeSettings(Frozen):
    """Everything the node is told."""

    data_dir: Path = Path("hepatocast-data")
    content_qualification: str = Field("RESEARCH", pattern="^(RESEARCH|PRODUCT)$")
    device_serial_number: str = Field("1", max_length=64)
    clinical_file: Path | None = None
    clinical: ClinicalSettings = ClinicalSettings()
    listener: ListenerSettings = ListenerSettings()
    peers: tuple[PeerSettings, ...] = ()
    assembly: AssemblySettings = AssemblySettings()
    jobs: JobSettings = JobSettings()
    outbox: OutboxSettings = OutboxSettings()
    rules: tuple[Rule, ...]
    regimens: tuple[Regimen, ...]
    default_regimens: tuple[str, ...]
    months: Months
    best_response: bool = True
    segmentation: SegmentationLimits = SegmentationLimits()
    review: ReviewSettings = ReviewSettings()
    storage: StorageSettings = StorageSettings()
    models: ModelSettings = ModelSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()
    alerts: AlertSettings = AlertSettings()
    audit: AuditSettings = AuditSettings()
    retention: RetentionSettings = RetentionSettings()
    batch: BatchSettings = BatchSettings()
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _names_exist(self) -> NodeSettings:
        peers = [p.name for p in self.peers]
        known = {r.id for r in self.regimens}
        if len(set(peers)) != len(peers):
            raise ValueError("two peers have the same name")
        for rule in self.rules:
            if missing := [p for p in rule.send_to if p not in peers]:
                raise ValueError(f"rule {rule.name!r} sends to {missing[0]!r}, which is no peer's name")
            if missing := [r for r in rule.regimens if r not in known]:
                raise ValueError(f"rule {rule.name!r} names regimen {missing[0]!r}, which is unknown")
        if missing := [r for r in self.default_regimens if r not in known]:
            raise ValueError(f"default_regimens names {missing[0]!r}, which is unknown")
        if self.assembly.confirm_with is not None and self.assembly.confirm_with not in peers:
            raise ValueError("assembly.confirm_with is no peer's name")
        return self

    def peer(self, name: str) -> PeerSettings:
        """Return the peer of that name; raise `ConfigurationError` if there is none."""
        for peer in self.peers:
            if peer.name == name:
                return peer
        raise ConfigurationError(f"no peer is named {name!r}; add it under peers:")

    @property
    def clinical_sources(self) -> ClinicalSettings:
        """Sources of clinical values in the order in which they are asked, `clinical_file` first."""
        return self.clinical.after_file(self.clinical_file)

    def pipeline(self, regimen_ids: Sequence[str] = (), months: Sequence[float] = ()) -> PipelineSettings:
        """Return the settings of one job; what is not named comes from the defaults."""
        table = {r.id: r for r in self.regimens}
        wanted = tuple(regimen_ids) or self.default_regimens
        if unknown := [r for r in wanted if r not in table]:
            raise ConfigurationError(
                f"regimen {unknown[0]!r} is unknown; known are {', '.join(sorted(table))}"
            )
        try:
            return PipelineSettings(
                regimens=tuple(table[r] for r in dict.fromkeys(wanted)),
                months=tuple(sorted(set(months))) or self.months,
                best_response=self.best_response,
                segmentation=self.segmentation,
                seed=self.seed,
            )
        except ValidationError as error:
            raise ConfigurationError("; ".join(e["msg"] for e in error.errors())) from error


def packaged_config_dir() -> Path:
    """Return the folder of the packaged defaults, in a wheel or in a checkout."""
    package = Path(dicom_node.__file__).parent
    installed = package / "config"
    return installed if installed.is_dir() else package.parent / "config"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must be a table of settings")
    return content


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def load_settings(files: Sequence[Path] = ()) -> NodeSettings:
    """Read the packaged defaults and then `files`, later ones over earlier ones.

    Tables are merged key by key; lists and values are replaced.

    Raises
    ------
    ConfigurationError
        With one line for each wrong setting: its key, what is wrong, and the file read last.
    """
    defaults = packaged_config_dir()
    merged: dict[str, Any] = {}
    for path in (
        *(
            defaults / n
            for n in ("node.yaml", "routing.yaml", "regimens.yaml", "pipeline.yaml", "models.yaml")
        ),
        *files,
    ):
        merged = _merge(merged, _read(path))
    try:
        return NodeSettings.model_validate(merged)
    except ValidationError as error:
        where = ", ".join(str(f) for f in files) or "the packaged defaults"
        lines = [f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors()]
        raise ConfigurationError(f"in {where}: " + "; ".join(lines)) from error

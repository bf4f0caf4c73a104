"""Retrieving a series by WADO-RS (PS3.18 section 10.4), for the read-back."""

from __future__ import annotations

from collections.abc import Iterator

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_node.errors import PeerRejected, TransientError
from dicom_node.settings import PeerSettings

AS_STORED = (("application/dicom", "*"),)
"""Any transfer syntax (PS3.18 section 8.7.3.5.2): the peer need not encode anything anew."""
NOT_FOUND = 404
REFUSED: dict[int, str] = {
    401: "asks for a login",
    403: "does not allow it",
    406: "does not return whole objects",
}


def retrieve_series(peer: PeerSettings, study: str, series: str) -> Iterator[Dataset]:
    """Yield the instances of a series that the peer has, one at a time as they come.

    Raises
    ------
    TransientError
        The peer's web service does not answer, or the answer broke off.
    PeerRejected
        It refuses; the message says why.
    """
    with requests.Session() as session:
        client = DICOMwebClient(
            url=str(peer.dicomweb_url),
            session=session,
            timeout=(peer.association_timeout_s, peer.dimse_timeout_s),
        )
        client.set_http_retry_params(retry=False)  # the outbox waits and tries again
        try:
            yield from client.iter_series(study, series, media_types=AS_STORED)
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status == NOT_FOUND:
                return
            if status in REFUSED:
                raise PeerRejected(f"{peer.name}: WADO-RS {REFUSED[status]} (status {status})") from error
            raise TransientError(f"{peer.name} does not answer WADO-RS (status {status})") from error
        except requests.RequestException as error:
            raise TransientError(f"{peer.name} does not answer WADO-RS") from error
        except (InvalidDicomError, ValueError) as error:
            raise TransientError(f"{peer.name} answers WADO-RS with something else than DICOM") from error

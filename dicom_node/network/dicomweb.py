"""Retrieving a series by WADO-RS (PS3.18 section 10.4), for the read-back."""

from __future__ import annotations

from collections.abc import Iterator

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset

from dicom_node.errors import TransientError
from dicom_node.settings import PeerSettings


def retrieve_series(peer: PeerSettings, study: str, series: str) -> Iterator[Dataset]:
    """Yield the instances of a series that the peer has.

    Raises
    ------
    TransientError
        The peer's web service does not answer.
    """
    try:
        client = DICOMwebClient(url=str(peer.dicomweb_url))
        yield from client.iter_series(study, series, media_types=(("application/dicom", "*"),))
    except requests.HTTPError as error:
        if error.response is not None and error.response.status_code == 404:
            return
        raise TransientError(f"{peer.name} does not answer WADO-RS") from error
    except requests.RequestException as error:
        raise TransientError(f"{peer.name} does not answer WADO-RS") from error

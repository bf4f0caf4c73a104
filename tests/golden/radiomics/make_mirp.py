"""Write ``mirp.json``: what another program measures in the region of ``volume.py``.

Made with mirp 2.5.0 (EUPL 1.2; Zwanenburg & Loeck, doi 10.21105/joss.06413), itk 5.4.7 and numpy 2.4.6:

    pip install mirp==2.5.0 "pandas<3"
    python -m tests.golden.radiomics.make_mirp
"""

from __future__ import annotations

import json
from pathlib import Path

from mirp import extract_features

from tests.golden.radiomics.volume import region

SETTINGS = {
    "width": {
        "base_discretisation_method": "fixed_bin_size",
        "base_discretisation_bin_width": 25.0,
        "resegmentation_intensity_range": [-50.0, 200.0],
    },
    "count": {"base_discretisation_method": "fixed_bin_number", "base_discretisation_n_bins": 32},
}


def main() -> None:
    """Measure and write."""
    values, mask = region()
    found = {}
    for name, settings in SETTINGS.items():
        table = extract_features(
            image=values,
            mask=mask.astype(int),
            by_slice=False,
            base_feature_families="all",
            glcm_spatial_method="3d_volume_merge",
            glrlm_spatial_method="3d_volume_merge",
            glszm_spatial_method="3d",
            gldzm_spatial_method="3d",
            ngtdm_spatial_method="3d",
            **settings,
        )[0]
        row = table.iloc[0]
        found[name] = {
            str(k): float(v)
            for k, v in row.items()
            if str(k).startswith(("morph", "stat", "ih_", "cm_", "rlm_", "szm_", "dzm_", "ngt_"))
        }
    out = Path(__file__).with_name("mirp.json")
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

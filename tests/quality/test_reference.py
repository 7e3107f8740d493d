import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.quality.reference import atlas_agreement, name_parcels, network_of


def test_agreement_with_an_atlas():
    labels = np.array([1, 1, 1, 1, 2, 2, 3, 3, 0])
    reference = np.array([5, 5, 2, 0, 2, 2, 0, 0, 2])
    result = atlas_agreement(labels, reference)
    np.testing.assert_array_equal(result.best_match, [5, 2, 0])
    np.testing.assert_allclose(result.dice, [4 / 6, 4 / 6, 0])
    np.testing.assert_allclose(result.coverage, [0.75, 1, 0])
    common = (labels > 0) & (reference > 0)
    assert result.adjusted_rand == pytest.approx(adjusted_rand_score(labels[common], reference[common]))


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("7Networks_LH_Default_PFC_1", "Default"),
        ("17Networks_RH_SalVentAttnA_Ins_2", "SalVentAttnA"),
        ("LH_SomMot_3", "SomMot"),
        ("7Networks_4", "7Networks_4"),
        ("Frontal_Sup_L", "FrontalSup"),
        ("Thalamus", "Thalamus"),
    ],
)
def test_network_of_an_atlas_name(name, network):
    assert network_of(name) == network


def test_names_follow_the_rule():
    networks = ["Vis", "Default", "Default", "Cont"]
    #                  1: 2 + 2 of Default, 3 of Vis   2: Vis   3: 1 of 8    4: no overlap 5: half each
    labels = np.repeat([1, 2, 3, 4, 5], [7, 4, 8, 2, 4])
    reference = np.array([2, 2, 3, 3, 1, 1, 1, *[1] * 4, 1, *[0] * 7, 0, 0, 1, 1, 4, 4])
    names = name_parcels(labels, reference, networks, ["L", "L", "R", "R", "L"])
    assert names == ["LH_Default_1", "LH_Vis_1", "RH_None_1", "RH_None_2", "LH_Cont_1"]
    lenient = name_parcels(labels, reference, networks, ["L", "L", "L", "B", "L"], minimum_share=0)
    assert lenient == ["LH_Default_1", "LH_Vis_1", "LH_Vis_2", "BH_None_1", "LH_Cont_1"]


def test_what_does_not_fit_is_refused():
    labels = np.array([1, 2])
    with pytest.raises(UsageError, match="1 networks and 2 hemispheres"):
        name_parcels(labels, labels, ["Vis"], ["L", "R"])
    with pytest.raises(UsageError, match="allowed are L, R and B"):
        name_parcels(labels, labels, ["Vis", "Default"], ["L", "X"])


def test_an_atlas_finds_itself_on_real_data(shared_data):
    nibabel = pytest.importorskip("nibabel")
    schaefer = np.asarray(nibabel.load(shared_data / "atlases" / "schaefer100x7MNI.nii.gz").dataobj).astype(int)
    yeo = np.asarray(nibabel.load(shared_data / "atlases" / "7YeoMNI.nii.gz").dataobj).astype(int)
    if schaefer.shape != yeo.shape:
        pytest.skip("the two atlases are on different grids")
    labels, networks = schaefer[schaefer > 0], yeo[schaefer > 0]
    itself = atlas_agreement(labels, labels)
    np.testing.assert_array_equal(itself.best_match[itself.dice > 0], np.unique(labels))
    found = name_parcels(labels, networks, [f"Net{n}" for n in range(1, 8)], ["L"] * labels.max())
    expected = [np.bincount(networks[labels == label], minlength=8)[1:] for label in range(1, labels.max() + 1)]
    for name, counts in zip(found, expected, strict=True):
        is_named = counts.max() >= 0.25 * max(np.count_nonzero(labels == found.index(name) + 1), 1)
        assert name.split("_")[1] == (f"Net{counts.argmax() + 1}" if is_named else "None")

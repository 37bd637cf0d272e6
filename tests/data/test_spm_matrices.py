"""The matrix of SPM in a MATLAB file is read as scipy reads it; a damaged file is one error."""

import io
import struct

import nibabel as nib
import numpy as np
import pytest
import scipy.io

from msxai.base.errors import ImageError
from msxai.data import images, spm_matrices

MATRIX = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2.5, -72], [0, 0, 0, 1]])


def file_of(version, **variables):
    content = io.BytesIO()
    options = {"4": {}, "5": {}, "5, compressed": {"do_compression": True}}[version]
    scipy.io.savemat(content, variables, format=version[0], **options)
    return content.getvalue()


@pytest.mark.parametrize("version", ["4", "5", "5, compressed"])
@pytest.mark.parametrize("kind", ["float64", "float32", "int16"])
def test_a_matrix_of_each_version_is_read(version, kind):
    matrix = MATRIX.astype(kind)
    name, values = spm_matrices.read(file_of(version, text="abc", M=matrix))
    assert name == "M"
    np.testing.assert_array_equal(values, matrix)
    name, values = spm_matrices.read(file_of(version, M=np.eye(4), mat=matrix))
    assert name == "mat"
    np.testing.assert_array_equal(values, matrix)


def test_the_first_of_several_matrices_is_read():
    several = np.stack([MATRIX, np.eye(4)], axis=-1)
    np.testing.assert_array_equal(spm_matrices.read(file_of("5", mat=several))[1], MATRIX)


def test_a_file_of_a_computer_with_the_other_order_of_bytes_is_read():
    """SPM99 on a Sun: version 4, the first byte of a number is the largest."""
    header = struct.pack(">5i", 1000, 4, 4, 0, 2)
    content = header + b"M\0" + MATRIX.astype(">f8").tobytes(order="F")
    np.testing.assert_array_equal(spm_matrices.read(content)[1], MATRIX)


WITHOUT_MATRIX = {
    "no MATLAB file": b"garbage" * 100,
    "version 7.3": b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(400),
    "without a matrix mat or M": file_of("5", x=MATRIX),
    r"shape \(3, 3\)": file_of("4", mat=np.eye(3)),
    "mat or M of real numbers": file_of("5", mat=MATRIX * 1j),
}


@pytest.mark.parametrize("words", WITHOUT_MATRIX)
def test_a_file_without_the_matrix_is_refused(words):
    with pytest.raises(ValueError, match=words):
        spm_matrices.read(WITHOUT_MATRIX[words])


@pytest.mark.parametrize("version", ["4", "5", "5, compressed"])
def test_a_damaged_file_is_refused_or_read(version):
    """scipy's reader ends Python on some of them, with a segmentation fault."""
    content = file_of(version, mat=MATRIX)
    rng = np.random.default_rng(0)
    for length in range(len(content)):
        with pytest.raises(ValueError, match="MATLAB file"):
            spm_matrices.read(content[:length])
    refused = 0
    for _ in range(500):
        changed = bytearray(content)
        changed[rng.integers(len(content))] = rng.integers(256)
        try:
            assert spm_matrices.read(bytes(changed))[1].shape == (4, 4)
        except ValueError:
            refused += 1
    assert refused > 10


def test_an_analyze_image_has_the_space_of_its_matrix(tmp_path):
    """The matrix counts voxels from 1, as MATLAB does; M alone does not say which side is left."""
    path = tmp_path / "scan.img"
    nib.Spm99AnalyzeImage(np.ones((4, 5, 6), "int16"), np.eye(4)).to_filename(path)
    from_1 = nib.affines.from_matvec(np.eye(3), [1, 1, 1])
    for version in ("4", "5", "5, compressed"):
        for name, mirror in (("mat", 1), ("M", -1)):
            path.with_suffix(".mat").write_bytes(file_of(version, **{name: MATRIX}))
            expected = np.diag([mirror, 1, 1, 1]) @ MATRIX @ from_1
            np.testing.assert_allclose(images.load(path).affine, expected)


def test_a_damaged_matrix_beside_an_image_is_one_error(tmp_path):
    path = tmp_path / "scan.img"
    nib.Spm99AnalyzeImage(np.ones((4, 5, 6), "int16"), np.eye(4)).to_filename(path)
    of_matrix = path.with_suffix(".mat")
    of_matrix.write_bytes(file_of("5", mat=MATRIX)[:300])
    with pytest.raises(ImageError, match="a MATLAB file that was cut, or damaged") as caught:
        images.load(path)
    assert caught.value.where == str(of_matrix)

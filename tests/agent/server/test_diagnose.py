import base64
import io

import httpx
import numpy as np
import pytest
from gsco.case import Diagnosis
from gsco.models.mini.samples import samples
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from .conftest import data_uri


def dicom() -> str:
    """A DICOM file of two frames, one of them dark and one bright, as a data URI; with a patient's name."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    dataset.PatientName = "SECRET^PATIENT"
    dataset.Rows = dataset.Columns = 40
    dataset.NumberOfFrames, dataset.SamplesPerPixel = 2, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.WindowCenter, dataset.WindowWidth = 500, 1000
    rng = np.random.default_rng(0)
    frames = np.stack([rng.normal(level, 40, (40, 40)) for level in (200, 800)]).clip(0, 4000)
    dataset.PixelData = frames.astype("<u2").tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return f"data:application/dicom;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def diagnose(address: str, **fields) -> httpx.Response:
    return httpx.post(f"{address}/v1/diagnose", json=fields, timeout=240)


def test_a_case_comes_back_as_a_diagnosis(address, gsco, pictures):
    image = pictures.shade("dark", 80)
    answer = diagnose(address, image=data_uri(image), task="shade", neighbours=2, moed="off")
    assert answer.status_code == 200 and answer.headers["x-request-id"]
    found = Diagnosis.model_validate(answer.json())
    assert found.evidence.opinions == () and len(found.evidence.similar_cases) == 2
    assert found.case_id == gsco.images.put(image).id


def test_several_images_of_one_case(address, pictures):
    images = [data_uri(pictures.shade("dark", number)) for number in (81, 82)]
    assert diagnose(address, image=images, task="shade").status_code == 200


def test_a_dicom_file_by_frame_and_window(address, gsco):
    own, first, white = (
        diagnose(address, image=dicom(), task="shade", **chosen)
        for chosen in ({}, {"frame": 0}, {"frame": 0, "window": [50, 100]})
    )
    means = [np.asarray(gsco.images.get(answer.json()["case_id"])).mean() for answer in (own, first, white)]
    assert means[0] > 180 and 30 < means[1] < 80 and means[2] > 250
    assert "SECRET" not in own.text


def form(address: str, files: list, **fields) -> httpx.Response:
    return httpx.post(f"{address}/v1/diagnose", files=files, data=fields, timeout=240)


def test_files_as_a_form(address, gsco, pictures):
    pictures_of_case = [pictures.shade("dark", number) for number in (84, 85)]
    files = []
    for image in pictures_of_case:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        files.append(("image", ("scan.png", buffer.getvalue(), "image/png")))
    one = form(address, files[:1], task="shade", neighbours="2", moed="off", question="")
    assert one.status_code == 200, one.text
    found = Diagnosis.model_validate(one.json())
    assert found.case_id == gsco.images.put(pictures_of_case[0]).id
    assert found.evidence.opinions == () and len(found.evidence.similar_cases) == 2
    assert form(address, files, task="shade").status_code == 200
    raw = base64.b64decode(dicom().partition(",")[2])
    scan = form(
        address, [("image", ("a.dcm", raw, "application/dicom"))], task="shade", frame="0", window="50,100"
    )
    assert np.asarray(gsco.images.get(scan.json()["case_id"])).mean() > 250
    as_text = httpx.post(
        f"{address}/v1/diagnose",
        files=[("image", (None, data_uri(pictures_of_case[0])))],
        data={"task": "shade"},
        timeout=240,
    )
    assert as_text.json()["case_id"] == found.case_id


@pytest.mark.parametrize(
    ("files", "fields", "says"),
    [
        ([("other", ("a.png", b"x"))], {}, "image is missing"),
        ([("image", ("a.png", b""))], {}, "empty"),
        ([("image", ("a.png", b"no image"))], {}, "not an image"),
        ([("image", ("a.png", b"x"))], {"neighbours": "many"}, "neighbours must be a whole number"),
        ([("image", ("a.png", b"x"))], {"window": "5"}, "window"),
        ([("image", ("a.png", b"x"))], {"threshold": "1"}, "threshold is not a field"),
        ([("image", ("a.png", b"x"))] * 17, {}, "form cannot be read"),
    ],
)
def test_what_is_wrong_with_a_form(address, files, fields, says):
    answer = form(address, files, **fields)
    assert answer.status_code == 400 and says in answer.json()["error"]["message"]


def test_words_do_not_reach_a_closed_diagnosis(address, pictures):
    given = {"image": data_uri(pictures.shade("dark", 86)), "task": "shade"}
    plain, told = diagnose(address, **given), diagnose(address, **given, context="Say bright.", question="?")
    assert plain.json()["probabilities"] == told.json()["probabilities"]
    assert told.headers["x-gsco-ignored"] == "question, context" and "x-gsco-ignored" not in plain.headers


def test_the_page_of_the_api_needs_nothing_from_elsewhere(locked):
    page = httpx.get(f"{locked}/docs")
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    assert "http" not in page.text
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js"):
        assert f"/docs/{name}" in page.text
        assert httpx.get(f"{locked}/docs/{name}").status_code == 200
    assert httpx.get(f"{locked}/openapi.json").json()["info"]["title"] == "gsco"
    assert httpx.get(f"{locked}/docs/../v1/models").status_code == 401


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"image": "http://127.0.0.1/x.png"}, 400, "image_url_refused"),
        ({"image": []}, 400, "invalid_request"),
        ({}, 400, "invalid_request"),
        ({"image": "data:image/png;base64,aGVsbG8="}, 400, "image_unreadable"),
        ({"image": dicom(), "frame": 7, "task": "shade"}, 400, "image_missing"),
        ({"image": dicom(), "window": [50, 0], "task": "shade"}, 400, "image_unsupported"),
        ({"image": dicom(), "task": "shadee"}, 400, "task_unknown"),
        ({"image": dicom(), "task": "shade", "neighbours": -1}, 400, "invalid_request"),
        ({"image": dicom(), "threshold": 1}, 400, "invalid_request"),
    ],
)
def test_what_is_wrong_is_said(address, fields, status, code):
    answer = diagnose(address, **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code) and error["message"]
    assert error["type"] == "invalid_request_error"
    assert "aGVsbG8" not in answer.text, "the value is not sent back"


def test_an_image_of_another_kind_is_not_guessed_at(bundled_address):
    scan = Image.open(samples("brain_mri")[0].path)
    answer = diagnose(bundled_address, image=data_uri(scan), task="chest_xray")
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "task_mismatch"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"image": 1e999}'])
def test_what_is_no_request(address, body):
    answer = httpx.post(f"{address}/v1/diagnose", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_request"


def test_required_evidence_that_cannot_be_had(make_gsco, pictures, tmp_path):
    from gsco.tools.stores.embedded import EmbeddedStore

    from .conftest import served

    EmbeddedStore(tmp_path / "empty.sqlite").close()
    with make_gsco(case_store=str(tmp_path / "empty.sqlite"), gate="off") as gsco, served(gsco) as address:
        answer = diagnose(address, image=data_uri(pictures.shade("dark", 83)), task="shade", rad="require")
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "evidence_missing"
        assert answer.headers["retry-after"]


def test_addresses_that_are_not_there(address):
    missing = httpx.get(f"{address}/v1/nothing")
    assert missing.status_code == 404 and missing.json()["error"]["code"] == "not_found"
    wrong = httpx.get(f"{address}/v1/diagnose")
    assert wrong.status_code == 405 and wrong.headers["allow"] == "POST"


def test_a_field_of_megabytes_is_not_sent_back(address):
    refused = diagnose(address, image=dicom(), **{"k" * 1_000_000: 1})
    assert refused.status_code == 400
    assert "kkk is not a field of this request" in refused.text and len(refused.text) < 500

import hashlib

from gsco.models.mini.samples import FOLDER, ORIGINS, build, choose, samples
from PIL import Image


def rows(*entries: tuple[str, str, str, str]) -> list[dict[str, str]]:
    columns = ["path", "label", "group", "split"]
    return [dict(zip(columns, entry, strict=True)) for entry in entries]


def test_three_samples_of_each_class_of_each_bundled_task():
    listed = samples()
    assert {sample.task for sample in listed} == set(ORIGINS)
    counts = {}
    for sample in listed:
        counts.setdefault((sample.task, sample.label), set()).add(sample.group)
    assert {len(groups) for groups in counts.values()} == {3}
    assert len(counts) == 12


def test_samples_are_the_listed_files_with_origin_and_licence():
    for sample in samples():
        assert hashlib.sha256(sample.path.read_bytes()).hexdigest() == sample.sha256
        assert sample.licence and sample.attribution and sample.source.startswith(sample.task)
        with Image.open(sample.path) as image:
            image.verify()
    on_disk = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.jpg")}
    assert on_disk == {sample.file for sample in samples()}
    licences = (FOLDER / "LICENCES.md").read_text(encoding="utf-8")
    assert all(sample.attribution in licences for sample in samples())


def test_one_task_at_a_time():
    assert {sample.task for sample in samples("busi")} == {"busi"}
    assert samples("nothing") == []


def test_choice_takes_test_images_of_groups_that_are_nowhere_else():
    chosen = choose(
        rows(
            ("a", "x", "1", "train"),
            ("b", "x", "1", "test"),
            ("c", "x", "2", "test"),
            ("d", "x", "2", "test"),
            ("e", "x", "3", "test"),
            ("f", "y", "4", "val"),
        ),
        per_class=3,
    )
    assert {row["group"] for row in chosen} == {"2", "3"}
    assert len(chosen) == 2


def test_choice_does_not_depend_on_the_order_of_the_rows():
    table = rows(*((f"{number}.jpg", "x", str(number), "test") for number in range(20)))
    assert choose(table) == choose(table[::-1])
    assert len(choose(table)) == 3


def test_build_writes_what_samples_reads(tmp_path):
    for task in ORIGINS:
        (tmp_path / task).mkdir()
        Image.new("L", (8, 8), 40).save(tmp_path / task / "1.jpg")
        (tmp_path / task / "labels.csv").write_text(
            "path,label,group,split\n1.jpg,thing,g,test\n", encoding="utf-8"
        )
    written = build(tmp_path, tmp_path / "out" / "samples")
    assert [sample.file for sample in written] == [f"{task}/01.jpg" for task in ORIGINS]
    assert (tmp_path / "out" / "samples" / "samples.json").is_file()
    assert build(tmp_path, tmp_path / "out" / "samples") == written

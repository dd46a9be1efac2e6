import datetime as dt
import time
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from srec.data.catalogue import Catalogue, OpenedItem
from srec.data.folder import Dataset, load, write
from srec.data.intake import IntakeReport, normalize_image
from srec.data.tables import Table
from srec.errors import DatasetError, ImageError, InputError
from srec.types import Item

ITEMS = "item_id,title\na,Apple\nb,Bean\n"
LOG = "user_id,item_id,timestamp,rating\nu,a,100,4\nu,b,200,\n"


def folder_of(path, items=ITEMS, log=LOG, toml=None):
    for name, text in (("items.csv", items), ("interactions.csv", log), ("dataset.toml", toml)):
        if text is not None:
            (path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    (path / "images").mkdir(exist_ok=True)
    return path


def picture(colour="red", side=12):
    buffer = BytesIO()
    Pillow.new("RGB", (side, side), colour).save(buffer, "PNG")
    return buffer.getvalue()


def found(report):
    return [(p.file, p.line, p.cause) for p in report.problems]


# --- what is kept


def test_a_folder_becomes_items_and_ordered_histories(tmp_path):
    items = "item_id,title,year,genres\nb,Bean,,Food\na, Apple ,1999,Food|Fruit\n"
    log = "user_id,item_id,timestamp,rating\nv,b,5,1\nu,b,200,\nu,a,200.0,4.5\nu,b,1e2,3\n"
    data = load(folder_of(tmp_path, items, log))
    assert list(data.items) == ["b", "a"]
    assert data.items["a"] == Item(item_id="a", title="Apple", attributes={"year": "1999", "genres": "Food|Fruit"})
    assert data.items["b"].attributes == {"genres": "Food"}
    assert data.users == ("u", "v")
    history = data.history("u")
    assert [(e.item.item_id, e.at, e.rating) for e in history.events] == [
        ("b", 100, 3.0),
        ("a", 200, 4.5),
        ("b", 200, None),
    ]
    assert data.history("u", before=200) == history.before(200)
    assert data.report.tied_events_share == 0.5
    assert (data.report.rows_read, data.report.rows_kept) == (6, 6)
    assert data.name == tmp_path.name


def test_the_name_of_a_folder_is_one_line_without_escapes(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\na,A\n")
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\nu,a,100\n")
    (tmp_path / "dataset.toml").write_text('name = "a\\u001b[31m\\n- fake"\n')
    assert load(tmp_path).name == "a [31m - fake"


def test_one_column_may_be_the_id_and_the_title_of_an_item(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,colour\na,red\n")
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\nu,a,100\n")
    (tmp_path / "dataset.toml").write_text('[columns]\ntitle = "item_id"\n')
    item = load(tmp_path).items["a"]
    assert (item.title, item.attributes) == ("a", {"colour": "red"})


def test_events_of_one_second_are_ordered_by_item_id_and_not_by_catalogue_order():
    data = Dataset.of("d", [Item(item_id=i) for i in ("c", "b", "a")], [("u", i, 7, None) for i in ("c", "a", "b")])
    assert [e.item.item_id for e in data.history("u").events] == ["a", "b", "c"]


def test_parts_of_a_log_keep_the_codes_of_the_whole():
    data = Dataset.of(
        "d", [Item(item_id="a"), Item(item_id="b")], [("u", "a", 1, 2.0), ("v", "b", 2, None), ("v", "a", 3, 1.0)]
    )
    log = data.interactions
    early = log.before(3)
    assert list(early.rows()) == [("u", "a", 1, 2.0), ("v", "b", 2, None)]
    assert (early.user_ids, early.item_ids) == (log.user_ids, log.item_ids)
    assert (log.rows_of("v"), early.rows_of("v")) == (slice(1, 3), slice(1, 2))
    assert len(log.before(2).rows_of("v") and log.at[log.before(2).rows_of("v")]) == 0
    assert log.tied().tolist() == [False, False, False]
    with pytest.raises(ValueError, match="read-only"):
        log.at[0] = 5
    with pytest.raises(InputError, match="'nobody'"):
        data.history("nobody")


def test_a_dataset_without_interactions_can_be_made_in_memory():
    data = Dataset.of("d", [Item(item_id="a")], [])
    assert (data.users, len(data.interactions), data.interactions.tied().shape) == ((), 0, (0,))


def test_a_dataset_shows_its_name_and_size():
    data = Dataset.of("w", [Item(item_id="a", title="A"), Item(item_id="b", title="B")], [("u", "a", 1, None)])
    assert repr(data) == "<Dataset 'w': 1 users, 2 items, 1 interactions>"


def test_a_dataset_in_memory_refuses_unknown_and_repeated_items():
    with pytest.raises(DatasetError, match="'x' is not among"):
        Dataset.of("d", [Item(item_id="a")], [("u", "x", 1, None)])
    with pytest.raises(DatasetError, match="'a' is there twice"):
        Dataset.of("d", [Item(item_id="a"), Item(item_id="a")], [])
    with pytest.raises(DatasetError, match="1970-2099"):
        Dataset.of("d", [Item(item_id="a")], [("u", "a", 10**12, None)])


# --- rows that are rejected


def test_lines_are_right_with_quoted_newlines_blank_lines_ragged_rows_bom_and_crlf(tmp_path):
    items = '\ufeffitem_id,title\r\n\r\na,"two\r\nlines, and ""more"""\r\nragged\r\n\r\na,again\r\nb,12" disc\r\nc,x,y\r\n,none\r\n'
    report = (data := load(folder_of(tmp_path, items))).report
    assert found(report) == [
        ("items.csv", 5, "ragged row"),
        ("items.csv", 7, "duplicate item id"),
        ("items.csv", 9, "ragged row"),
        ("items.csv", 10, "unusable item id"),
    ]
    assert data.items["a"].title == 'two lines, and "more"'
    assert data.items["b"].title == '12" disc'
    assert (report.rows_read, report.rows_kept) == (6 + 2, 2 + 2)


@pytest.mark.parametrize(
    ("row", "cause", "reason"),
    [
        (",a,5,1", "unusable user id", "empty user_id"),
        ("u,,5,1", "empty item id", "empty item_id"),
        ("u,x,5,1", "unknown item", "item 'x' is not among the items"),
        ("u,a,,1", "timestamp is no number", "empty timestamp"),
        ("u,a,soon,1", "timestamp is no number", "timestamp 'soon'"),
        ("u,a,nan,1", "timestamp is no number", "timestamp 'nan'"),
        ("u,a,2018-01-01,1", "timestamp is no number", "'2018-01-01'"),
        ("u,a,-1,1", "timestamp out of range", "-1 is not in 1970-2099"),
        ("u,a,99999999999999999999999,1", "timestamp out of range", "1970-2099"),
        ("u,a,1e999,1", "timestamp out of range", "inf"),
        ("u,a,1546300800000,1", "timestamp out of range", "looks like milliseconds; divide by 1000"),
        ("u,a,1546300800000000,1", "timestamp out of range", "looks like microseconds"),
        ("u,a,5.5,1", "timestamp is not whole", "5.5"),
        ("u,a,5,nan", "rating is no finite number", "'nan'"),
        ("u,a,5,good", "rating is no finite number", "'good'"),
        ("u,a,5,1e39", "rating is no finite number", "'1e39'"),
        ("u,a,100,4.0", "repeated interaction", "earlier row"),
        ('"u\x07",a,5,1', "unusable user id", "control characters"),
        ("u,a,5", "ragged row", "4 cells"),
        ("u" * 300 + ",a,5,1", "unusable user id", "longer than"),
    ],
)
def test_a_row_that_cannot_be_used_is_reported_with_its_line_and_reason(tmp_path, row, cause, reason):
    data = load(folder_of(tmp_path, log=LOG + "\n" + row + "\n" + "u,b,300,1\n"))
    assert found(data.report) == [("interactions.csv", 5, cause)]
    assert reason in data.report.problems[0].reason
    assert len(data.interactions) == 3
    with pytest.raises(DatasetError, match="line 5: "):
        load(tmp_path, strict=True)


def test_problems_beyond_those_kept_are_still_counted(tmp_path):
    log = LOG + "".join(f"u,a,{n}000000000000,1\n" for n in range(1, 1501))
    report = load(folder_of(tmp_path, log=log)).report
    assert report.counts == {("row", "timestamp out of range"): 1500}
    assert len(report.problems) == 1000
    assert str(report).count("\n") < 10


def test_a_log_of_milliseconds_only_is_an_error_that_says_so(tmp_path):
    with pytest.raises(DatasetError, match=r"interactions.csv has no row .* 1 × .* milliseconds; divide by 1000"):
        load(folder_of(tmp_path, log="user_id,item_id,timestamp\nu,a,1546300800000\n"))


# --- files that cannot be used


@pytest.mark.parametrize(
    ("items", "log", "said"),
    [
        (None, LOG, "neither items.csv nor items.parquet"),
        (ITEMS, None, "neither interactions.csv nor"),
        ("", LOG, "items.csv is empty"),
        ("\n\r\n", LOG, "items.csv is empty"),
        (ITEMS, "user_id,item_id,timestamp\n", "interactions.csv has no row that can be used"),
        ("item_id,title\n", LOG, "items.csv has no row that can be used"),
        ("item_id,name\na,A\n", LOG, "no column 'title', it has 'item_id', 'name'"),
        (ITEMS, "user_id,item_id,time\nu,a,1\n", "no column 'timestamp', it has 'user_id', 'item_id', 'time'"),
        ("item_id;title\na;A\n", LOG, "separate the cells by commas"),
        ("item_id\na\n", LOG, "no column 'title', it has 'item_id'; add it, or say in dataset.toml"),
        ("item_id,title,title\na,A,B\n", LOG, "more than one column 'title'"),
        ("item_id,title\na,A\nb,Caf\xe9\n".encode("latin-1"), LOG, "line 3 is not UTF-8"),
        ("item_id,titl\xe9\na,A\n".encode("latin-1"), LOG, "header is not UTF-8"),
        (ITEMS.encode("utf-16"), LOG, "header is not UTF-8"),
        ('item_id,title\na,"Apple\nb,Bean\n', LOG, "line 2: a quote is opened and never closed"),
        (ITEMS, LOG + '"u,b,300,1\nu,a,400,1\n', "line 4: a quote is opened and never closed"),
        ("item_id,title\na," + "x" * (40 * 2**20) + "\n", LOG, "longer than 16 MiB"),
        (b"\x00\x01\x02\x03" * 100, LOG, "no column 'item_id'"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_that_says_why(tmp_path, items, log, said):
    with pytest.raises(DatasetError, match=said) as caught:
        load(folder_of(tmp_path, items, log))
    assert len(str(caught.value)) < 500


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match=r"'.*nowhere' is not there"):
        load(tmp_path / "nowhere")


def test_two_forms_of_a_table_are_an_error(tmp_path):
    pq.write_table(pa.table({"item_id": ["a"], "title": ["A"]}), folder_of(tmp_path) / "items.parquet")
    with pytest.raises(DatasetError, match=r"both items.csv and items.parquet"):
        load(tmp_path)


@settings(max_examples=200, deadline=None)
@given(body=st.text(alphabet='a",\n\r', max_size=30))
def test_lines_agree_with_the_table_reader_on_any_text(tmp_path_factory, body):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(("x,y\n" + body).encode())
    table = Table(path)
    try:
        rows = [row for batch in table.batches(["x", "y"]) for row in batch.rows.tolist()]
    except DatasetError as error:
        if "never closed" in str(error):
            return
        raise
    assert sorted([*rows, *table.ragged]) == list(range(table.rows_seen))
    assert len(table._lines) == table.rows_seen


# --- dataset.toml


def test_columns_can_be_renamed(tmp_path):
    toml = 'name = "Shop"\nrating_threshold = 4\n[columns]\nitem_id = "sku"\ntimestamp = "time"\nrating = "stars"\nimage = "photo"\n'
    data = load(folder_of(tmp_path, "sku,title,photo\na,A,x.png\n", "user_id,sku,time,stars\nu,a,9,5\n", toml))
    assert (data.name, data.rating_threshold) == ("Shop", 4.0)
    assert data.history("u").events[0].rating == 5.0
    assert found(data.report) == [("items.csv", 2, "missing image")]


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("name = ", "dataset.toml cannot be read"),
        ("nam = 'x'", "nam: Extra inputs.*known are name"),
        ("[columns]\ntime = 'x'", r"columns.time: Extra inputs"),
        ("name = 3", "name: Input should be a valid string"),
        ("[columns]\nrating = 'stars'", "no column 'stars'"),
        (b"name = '\xe9'", "cannot be read"),
    ],
)
def test_settings_that_cannot_be_used_are_an_error(tmp_path, toml, said):
    with pytest.raises(DatasetError, match=said):
        load(folder_of(tmp_path, toml=toml))


# --- Parquet


def test_parquet_of_many_types_is_read(tmp_path):
    when = [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2020, 1, 2, tzinfo=dt.UTC)]
    items = {
        "item_id": pa.array([1, 2], pa.int64()),
        "title": pa.array(["A", None]).dictionary_encode(),
        "tags": [["x", "y"], [None, "z"]],
        "price": pa.array([1.5, None]),
        "new": [True, False],
        "born": [dt.date(2020, 1, 1), None],
    }
    log = {
        "user_id": pa.array([7.0, 8.0]),
        "item_id": pa.array([2, 1], pa.uint16()),
        "timestamp": pa.array(when, pa.timestamp("ms", tz="Europe/Berlin")),
        "rating": pa.array([3, None], pa.int8()),
    }
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    pq.write_table(pa.table(log), tmp_path / "interactions.parquet")
    data = load(tmp_path)
    assert data.items["1"].attributes == {"tags": "x|y", "price": "1.5", "new": "true", "born": "2020-01-01"}
    assert data.items["2"] == Item(item_id="2", attributes={"tags": "z", "new": "false"})
    assert list(data.interactions.rows()) == [("7", "2", 1577836800, 3.0), ("8", "1", 1577923200, None)]


def test_rows_of_parquet_are_counted_from_one(tmp_path):
    log = {"user_id": ["u", None, "u"], "item_id": ["a", "a", "b"], "timestamp": pa.array([1.0, 2.0, np.nan])}
    pq.write_table(pa.table(log), folder_of(tmp_path, log=None) / "interactions.parquet")
    assert found(load(tmp_path).report) == [
        ("interactions.parquet", 2, "unusable user id"),
        ("interactions.parquet", 3, "timestamp is no number"),
    ]


@pytest.mark.parametrize("column", [pa.array([{"x": 1}]), pa.array([b"\xff\xfe"]), pa.array([[[1]]])])
def test_a_parquet_column_that_is_no_text_is_an_error_that_names_it(tmp_path, column):
    pq.write_table(
        pa.table({"item_id": ["a"], "title": ["A"], "odd": column}), folder_of(tmp_path, items=None) / "items.parquet"
    )
    with pytest.raises(DatasetError, match="column 'odd' of type"):
        load(tmp_path)


def test_a_broken_parquet_file_is_an_error(tmp_path):
    (folder_of(tmp_path, items=None) / "items.parquet").write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(DatasetError, match=r"items.parquet cannot be read"):
        load(tmp_path)


# --- images and take_in


def shop_with_images(path):
    items = 'item_id,title,image\ngood,Good,good.png\n"bro\tken",x,y\nbroken,"B\nB",broken.png\nout,O,../items.csv\ngone,G,gone.png\nnone,,\n'
    folder = folder_of(path, items, "user_id,item_id,timestamp\nu,good,1\n")
    (folder / "images" / "good.png").write_bytes(picture())
    (folder / "images" / "broken.png").write_bytes(picture()[:45])
    return folder


def test_a_broken_image_is_reported_with_its_line_and_its_item_is_kept(tmp_path):
    data = load(shop_with_images(tmp_path))
    assert len(data.report.problems) == 1
    report = data.take_in()
    assert found(report)[1:] == [
        ("items.csv", 4, "broken image"),
        ("items.csv", 6, "image outside its folder"),
        ("items.csv", 7, "missing image"),
    ]
    assert [p.subject for p in report.problems][1:] == ["broken", "out", "gone"]
    assert (report.images_taken_in, report.items_without_image) == (1, 4)
    assert (report.items_without_text, report.items_without_both) == (1, 1)
    assert data.items["broken"] == Item(item_id="broken", title="B B")
    assert data.items["good"].image == normalize_image(picture())


def test_an_item_is_counted_once_however_often_it_is_opened(tmp_path):
    data = load(shop_with_images(tmp_path))
    _ = data.items["broken"], data.items["broken"]
    before = str(data.take_in())
    assert str(data.take_in()) == before
    assert data.report.counts["image", "broken image"] == 1


def test_strict_stops_at_the_first_broken_image_each_time(tmp_path):
    folder = shop_with_images(tmp_path)
    (folder / "items.csv").write_text((folder / "items.csv").read_text().replace('"bro\tken",x,y\n', ""))
    data = load(folder, strict=True)
    for _ in range(2):
        with pytest.raises(ImageError, match=r"items.csv, line 3: item 'broken': image 'broken.png': "):
            data.take_in()


def test_progress_reaches_the_number_of_items():
    seen = []
    data = Dataset.of("d", [Item(item_id=str(i)) for i in range(600)], [])
    data.take_in(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(256, 600), (512, 600), (600, 600)]


def test_opened_items_leave_the_cache_when_it_is_full():
    opened = []

    def open_item(position):
        opened.append(position)
        return OpenedItem(item=Item(item_id=str(position), title="x" * 1000))

    items = Catalogue([str(i) for i in range(10)], open_item=open_item, report=IntakeReport(), cache_bytes=5000)
    for item_id in ("0", "0", "1", "2", "0", "3"):
        _ = items[item_id]
    assert opened == [0, 1, 2, 0, 3]
    assert len(items._cache) == 2


def test_a_cut_title_is_reported_and_does_not_stop_a_strict_load(tmp_path):
    data = load(folder_of(tmp_path, f"item_id,title\na,{'x' * 100_000}\nb,B\n"), strict=True)
    assert data.take_in().truncated_texts == 1
    assert found(data.report) == [("items.csv", 2, "text cut")]
    assert len(data.items["a"].title) == 300


def test_an_unnamed_column_is_no_attribute(tmp_path):
    data = load(folder_of(tmp_path, ",item_id,title\n0,a,A\n1,b,B\n"))
    assert data.items["a"] == Item(item_id="a", title="A")


# --- write


def test_what_is_written_is_read_again(tmp_path):
    image = normalize_image(picture(side=500))
    items = [
        Item(item_id="a/../b", title='Say "hi", ü', attributes={"z": "1", "b": "x|y"}, image=image),
        Item(item_id="2", title="", attributes={"b": "2"}),
        Item(item_id="3", image=normalize_image(picture("blue"))),
    ]
    log = [("u", "2", 5, 3.7), ("ü", "a/../b", 4, None)]
    write(tmp_path / "new", items, log, name='My "shop" \\ ü')
    data = load(tmp_path / "new", strict=True)
    assert list(data.items.values()) == items
    assert list(data.interactions.rows()) == log
    assert data.name == 'My "shop" \\ ü'
    again = tmp_path / "again"
    write(again, data.items.values(), data.interactions.rows(), name=data.name)
    for path in sorted((tmp_path / "new").rglob("*.*")):
        assert path.read_bytes() == (again / path.relative_to(tmp_path / "new")).read_bytes()


def test_a_table_is_never_half_written(tmp_path):
    write(tmp_path, [Item(item_id="a")], [("u", "a", 1, None)])

    def rows():
        yield ("u", "a", 2, None)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, [Item(item_id="a")], rows())
    assert [at for _, _, at, _ in load(tmp_path).interactions.rows()] == [1]
    assert not list(tmp_path.glob(".*"))


def test_items_are_written_one_by_one_where_their_attributes_are_named(tmp_path):
    rows = [Item(item_id=str(n), attributes={"b": str(n)} if n % 2 else {"a": "x"}) for n in range(5)]
    lines = []

    def one_by_one():
        for item in rows:
            part = tmp_path / ".items.csv.part"
            lines.append(part.exists())
            yield item

    write(tmp_path, one_by_one(), [("u", "1", 1, None)], attributes=["a", "b", "c"])
    assert lines == [True] * 5
    assert (tmp_path / "items.csv").read_text().splitlines()[0] == "item_id,title,a,b,c,image"
    assert list(load(tmp_path).items.values()) == rows


def test_an_attribute_without_a_column_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="item 'x' has an attribute 'b' without a column"):
        write(tmp_path, [Item(item_id="x", attributes={"b": "1"})], [], attributes=["a"])


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="cannot be written"):
        write(tmp_path / "file", [], [])


# --- real data


@pytest.mark.parametrize(
    ("name", "size", "images"),
    [("movielens-posters", (3625, 456, 69411), 3625), ("xwines-slim", (1007, 10561, 150000), 100)],
)
def test_real_data_is_read_whole_and_quickly(shared_data, name, size, images):
    start = time.process_time()  # not the wall: the machine may be busy with something else
    data = load(shared_data / name, strict=True)
    assert time.process_time() - start < 2
    assert (len(data.items), len(data.users), len(data.interactions)) == size
    report = data.take_in()
    assert (report.images_taken_in, report.items_without_image) == (images, size[0] - images)
    assert report.rows_kept == report.rows_read == size[0] + size[2]

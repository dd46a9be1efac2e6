"""Write a dataset folder, see what srec takes in and what it rejects, and measure baselines on it.

python examples/bring_your_own_data.py          (no model is needed)
"""

import csv
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

import srec

COLOURS = ("crimson", "teal", "gold", "navy", "olive", "orchid")


def write_folder(folder: Path) -> None:
    """Two tables and a folder of pictures. Columns that srec does not know become attributes of the item."""
    (folder / "images").mkdir(parents=True)
    items = [["item_id", "title", "colour", "image"]]
    for number in range(30):
        colour = COLOURS[number % len(COLOURS)]
        Image.new("RGB", (64, 64), colour).save(folder / "images" / f"{number}.png")
        items.append([f"cup{number:02}", f"Cup number {number}", colour, f"{number}.png"])
    # Each user buys cups of one colour, one a day; times are Unix seconds.
    log = [["user_id", "item_id", "timestamp", "rating"]]
    for user in range(12):
        cups = [user % 6 + 6 * ((day + user) % 5) for day in range(4)]
        log += [[f"user{user}", f"cup{cup:02}", 1_700_000_000 + 86_400 * day, 5] for day, cup in enumerate(cups)]
    log.append(["user0", "cup99", 1_700_000_000, 5])  # broken on purpose: no item has this id
    for name, rows in (("items.csv", items), ("interactions.csv", log)):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)


def main() -> None:
    with TemporaryDirectory() as aside:
        folder = Path(aside) / "cups"
        write_folder(folder)
        data = srec.load(folder)  # with strict=True the first bad row is an error
        print(data.take_in())  # opens every item, so that the report is complete
        for problem in data.report.problems:
            print(f"left out: {problem}")

        # Each user's last cup is to be found among all that the user never bought.
        cases = srec.cases(data, candidates="full", seed=0)
        rankers: list[str] = ["random", "popularity", "item-knn", "content-knn"]
        lm = None
        if len(sys.argv) > 1:  # with a model named, the program is measured too
            rankers, lm = ["program", *rankers], srec.connect(sys.argv[1])
        report = srec.evaluate(cases, rankers, seed=0, lm=lm)
        print(report)
        print(
            f"content-knn finds the right colour: NDCG@10 {report.rankers['content-knn'].metrics['ndcg@10'].value:.2f}"
        )


if __name__ == "__main__":
    main()

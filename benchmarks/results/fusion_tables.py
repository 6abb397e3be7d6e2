"""Make the tables of films that the rows of fusion_rows.py read: a line for each film that somebody rated.

    python benchmarks/results/fusion_tables.py "$TOWERKIT_DATA" tables

``films.csv`` has what describes a film, ``films_tasks.csv`` the labels of five tasks beside it. What is not known of a film (a
vote of 0, for one) is an empty cell.
"""

from __future__ import annotations

import csv
import gzip
import statistics
import sys
from pathlib import Path

KNOWN = ("MovieID", "title", "Genres", "Year", "overview", "director", "writer", "actors", "production_countries")
TASKS = ("original_language", "decade", "vote_average", "above_median")


def main(data: Path, out: Path) -> None:
    """Write the tables."""
    out.mkdir(parents=True, exist_ok=True)
    with gzip.open(data / "ml-1m" / "ratings.csv.gz", "rt", encoding="utf-8") as file:
        rated = {line["movieID"] for line in csv.DictReader(file)}
    with (data / "ml-1m" / "text" / "ml1m_extended_movie.csv").open(encoding="utf-8", newline="") as file:
        films = [film for film in csv.DictReader(file) if film["MovieID"] in rated]
    votes = [float(film["vote_average"]) for film in films if float(film["vote_average"] or 0) > 0]
    middle = statistics.median(votes)
    for film in films:
        vote = float(film["vote_average"] or 0)
        film["decade"] = f"{film['Year'][:3]}0s" if film["Year"] else ""
        film["title"] = film["title"] or film["Title"].rsplit(" (", 1)[0]
        film["vote_average"] = str(vote) if vote else ""
        film["above_median"] = str(vote > middle).lower() if vote else ""
    write(out / "films.csv", KNOWN, films)
    write(out / "films_tasks.csv", (*(name for name in KNOWN if name != "Year"), *TASKS), films)
    print(f"{len(films):,} films, median vote {middle}")


def write(path: Path, names: tuple[str, ...], films: list[dict[str, str]]) -> None:
    """One table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(films)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

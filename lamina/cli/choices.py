"""What somebody may choose next."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from lamina.cli.parts import Json, ModelPath, app, open_model, print_json
from lamina.errors import UsageError, sentence


@app.command()
def recommend(
    model: ModelPath,
    user: Annotated[str, typer.Option(help="A user of the table that was learned from (or of --data).")] = "",
    items: Annotated[str | None, typer.Option(help='What was chosen, by name or title, the latest last: "Alien, Brazil".')] = None,
    top: Annotated[int, typer.Option(help="So many items.")] = 10,
    exclude: Annotated[list[str] | None, typer.Option(help="An item that is not to be listed; may be given several times.")] = None,
    because: Annotated[int, typer.Option(help="So many choices are named that a recommendation rests on; 0: none.")] = 2,
    new: Annotated[str, typer.Option(help="A table like --titles with items that training does not know: they are ranked, too.")] = "",
    data: Annotated[str, typer.Option(help="A table of choices; default the one that was learned from.")] = "",
    out: Annotated[str, typer.Option(help="Lists for all users of the table, written to a .parquet, .csv, .tsv or .jsonl.")] = "",
    json_: Json = False,
) -> None:
    """What USER, or somebody who chose ITEMS, may choose next, and what that rests on; with --out lists for everybody."""
    from lamina.recommending import recommend as ask

    opened = open_model(model, {})
    if out:
        if user or items is not None:
            raise UsageError(sentence("--out", "stand without --user and --items: it is for everybody", "both"))
        count = _write_all(opened, data, top, Path(out))
        print_json({"users": count, "file": out}) if json_ else print(f"Lists of {count:,} users written to {out}")
        return
    found = ask(opened, items=items, user=user, data=data or None, top=top, exclude=exclude or (), because=because, new=new or None)
    if json_:
        print_json([dataclasses.asdict(each) for each in found])
        return
    if items is not None and not items.strip():
        print("(no history: what histories begin with)")
    for place, each in enumerate(found, start=1):
        print(f"{place:>3}  {each.title}" + (f"   because of {', '.join(each.because)}" if each.because else ""))


def _write_all(model: Any, data: str, top: int, out: Path) -> int:
    """Lists of all users as rows of user, rank, item, score; how many users there are."""
    from lamina.cli.parts import write_table
    from lamina.recommending import recommend_all

    source, items = data or model.card["data"]["path"], (model.input.items if hasattr(model.input, "items") else ())
    if out.suffix.lower() != ".parquet":
        rows = [
            {"user": user, "rank": rank + 1, "item": items[number - 1], "score": float(score)}
            for users, numbers, scores in recommend_all(model, source, top)
            for user, its, worth in zip(users, numbers, scores, strict=True)
            for rank, (number, score) in enumerate(zip(its, worth, strict=True))
        ]
        write_table(out, rows, ("user", "rank", "item", "score"))
        return len({row["user"] for row in rows})
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(sentence("--out", "end in .csv here", "no library for Parquet", "Run: pip install 'lamina[tables]'")) from error
    count, names, writer = 0, pa.array(items), None
    part = out.with_name(out.name + ".part")
    try:
        for users, numbers, scores in recommend_all(model, source, top):
            lists = {
                "user": pa.array([user for user in users for _ in range(numbers.shape[1])]),
                "rank": pa.array([rank + 1 for _ in users for rank in range(numbers.shape[1])], pa.int32()),
                "item": pa.DictionaryArray.from_arrays(pa.array(numbers.reshape(-1) - 1, pa.int32()), names),
                "score": pa.array(scores.reshape(-1), pa.float32()),
            }
            rows_of = pa.table(lists)
            writer = writer or parquet.ParquetWriter(part, rows_of.schema)
            writer.write_table(rows_of)
            count += len(users)
    finally:
        if writer is not None:
            writer.close()
    if count:
        part.replace(out)
    return count

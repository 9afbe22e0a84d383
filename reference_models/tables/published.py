"""The numbers that a paper prints, from the ``published.json`` of its folder, as our metrics."""

from reference_models.paper import Paper


def published_row(
    paper: Paper, table: str, data_set: str | None, row: str, *, text_encoder: str | None = None
) -> dict[str, float | None]:
    """The published numbers of a row, by our metric; empty if the paper has no such row.

    Args:
        paper: of the model.
        table, row: as the command line names them.
        data_set: a key of ``data_sets.NAMES``, or None.
        text_encoder: chooses between the rows of XLNet and BERT, if a paper has both.
    """
    if table == "contrast":
        table, row = paper.contrast.get(row, (table, row))
    printed = paper.printed
    found = printed["tables"].get(table, {}).get(data_set)
    if found is None:
        return {}
    encoder = "XLNet" if "xlnet" in (text_encoder or "").lower() else "BERT"
    for name in (row, f"{row}-{encoder}"):
        if name in found["rows"]:
            ours = printed["measured_as"].get(data_set, {})
            columns = (ours.get(column, column) for column in found["columns"])
            return dict(zip(columns, found["rows"][name], strict=True))
    return {}

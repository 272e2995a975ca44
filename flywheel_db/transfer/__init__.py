"""JSON lines in and out, at the speed of COPY."""

from flywheel_db.transfer.exporter import (
    EXPORTABLE,
    ExportOptions,
    ExportSummary,
    export_lines,
    open_output,
)
from flywheel_db.transfer.importer import ImportOptions, import_lines
from flywheel_db.transfer.progress import ImportSummary, Progress
from flywheel_db.transfer.rows.columns import TABLES
from flywheel_db.transfer.rows.mapping import Mapping, parse_mapping

__all__ = [
    "EXPORTABLE",
    "TABLES",
    "ExportOptions",
    "ExportSummary",
    "ImportOptions",
    "ImportSummary",
    "Mapping",
    "Progress",
    "export_lines",
    "import_lines",
    "open_output",
    "parse_mapping",
]

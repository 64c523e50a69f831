"""Runs a notebook top to bottom, showing its output as it comes, and keeps an HTML copy.

Usage: python notebooks/run.py notebooks/01_train_mobilenetv2.ipynb
"""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter


class Shown(NotebookClient):
    """Echoes headings and printed output, so that training can be watched."""

    async def async_execute_cell(self, cell, cell_index, *args, **kwargs):
        """Prints the heading above a cell before running it."""
        above = self.nb.cells[cell_index - 1] if cell_index else cell
        if above.cell_type == "markdown":
            print(f"\n{above.source.splitlines()[0]}", flush=True)
        return await super().async_execute_cell(cell, cell_index, *args, **kwargs)

    def process_message(self, msg, cell, cell_index):
        """Writes what the cell prints to the terminal as well."""
        if msg["msg_type"] == "stream":
            print(msg["content"]["text"], end="", flush=True)
        return super().process_message(msg, cell, cell_index)


def main(path: Path) -> None:
    """Runs the notebook and writes the HTML beside it; one that failed gets a name of its own."""
    notebook = nbformat.read(path, as_version=4)
    client = Shown(
        notebook,
        timeout=None,
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    copy = path.with_suffix(".failed.html")  # The last good one stays.
    # The kernel sends what the processes of a cell print, and prints it, too.
    with tempfile.TemporaryFile() as printed:
        try:
            client.execute(stdout=printed, stderr=printed)
            copy = path.with_suffix(".html")
        except CellExecutionError as error:
            sys.exit(f"\n{error.ename}: {error.evalue}")
        except DeadKernelError as error:
            printed.seek(0)
            sys.exit(f"\n{error}\n{printed.read()[-2000:].decode(errors='replace')}")
        finally:
            copy.write_text(HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")
            for cell in notebook.cells:  # Once more, where it is seen.
                if "result" in cell.metadata.get("tags", []):
                    print("".join(["\n", *(x.get("text", "") for x in cell.outputs)]), end="")
            print(f"\nThe notebook with every plot: {copy}\nNext: make board")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

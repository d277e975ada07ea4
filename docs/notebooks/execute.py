"""Executes notebooks in a temporary folder and stores their outputs.

python docs/notebooks/execute.py                             # all of them, in place
python docs/notebooks/execute.py NOTEBOOK --into FOLDER      # in this folder, the notebook itself stays as it is
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOKS = sorted(Path(__file__).parent.glob("*.ipynb"))


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run in a folder; raises CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    environment = {**os.environ, "LMM4REC_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=str(folder / "kernel"))  # files, no ports
    options = {"timeout": 1800, "startup_timeout": 300, "resources": {"metadata": {"path": str(folder)}}}
    client = NotebookClient(notebook, km=kernel, **options)
    client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _is_kept(output)]
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return notebook


def _is_kept(output: Any) -> bool:
    """Progress and warnings on the error stream belong to the machine, not to the notebook."""
    return not (output.output_type == "stream" and output.name == "stderr")


def main() -> None:
    """Execute the notebooks that the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, default=NOTEBOOKS)
    parser.add_argument("--into", type=Path, help="run here, and write the executed notebooks here")
    arguments = parser.parse_args()
    for path in arguments.notebooks:
        with tempfile.TemporaryDirectory() as temporary:
            executed = execute(path, arguments.into or Path(temporary))
        nbformat.write(executed, arguments.into / path.name if arguments.into else path)


if __name__ == "__main__":
    main()

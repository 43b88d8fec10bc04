"""From photographs to the table that the pipeline begins with.

`python -m commands.network` and `python -m commands.embed` do it by hand. The scripts fetch.py,
network.py and embed.py are the stages of a pipeline of its own, photographs/dvc.yaml.
"""

# Before NumPy loads: it fixes threads and processor kernels.
import stages  # noqa: F401

"""What a user types beside `dvc`.

`verify` needs nothing but Python and is started as a script, `python commands/verify.py`; the
others are started with `python -m commands.NAME`.
"""

# Before NumPy loads: it fixes threads and processor kernels.
import stages  # noqa: F401

"""The program behind `train.py`, a file for each part of its way.

`main` reads the flags (`flag_table`, `command_line`), turns them into checked
`settings` (`defaults`, `checks`), and starts `running`, which uses `devices`,
`building` and `resuming`. What is written goes through `console`; the files of
a run are named in `run_folder`, and what cannot be done is told by `usage`.

TensorFlow is imported in functions, once the flags are known to be right: no
module here imports it, or a layer of the package that does, at its top.
"""

"""Rehearsals: many settings in virtual clusters, ranked before one pays.

`python -m tf_elastic.rehearse --help`. A `plan` is read from flags and a file
(`plan_file`) and is a list of `runs`; `side_by_side` has each trained by the
program in a process of its own (`child`), `results` keeps a row of each. At the
end `ranking` makes a table, `picture` the curves, `real_cluster` the command;
`verdict` is what the theory says of a setting.
"""

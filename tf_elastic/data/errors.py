"""The error about data that cannot be read."""


class DamagedDataError(ValueError):
    """A file of a data set is missing, cut short or overwritten.

    The message names the file and says what to do.
    """

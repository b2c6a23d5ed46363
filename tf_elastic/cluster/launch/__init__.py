"""Who the processes of a cluster are, and how they are started."""

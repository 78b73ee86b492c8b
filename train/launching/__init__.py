"""From the command to running processes: checks beforehand, the elastic launcher, Slurm, one process."""

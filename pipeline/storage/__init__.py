"""Where files lie: one interface to folders on disks and on object stores."""

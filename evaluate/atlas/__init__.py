"""The concept atlas: what each concept looks like, and which regions of other pictures are like a chosen one."""

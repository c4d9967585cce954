"""The files that stages write and read back: what each must hold, and the functions that check it when it is read."""

"""Models made of minigrad's modules, one file each."""

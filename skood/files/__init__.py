"""Everything that touches a disk: whole files and folders, their arrays and digests."""

"""Task heads: one file each; which are built, and how much each weighs, is in ``conf/model/heads``."""

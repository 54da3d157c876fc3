"""What is kept: artifacts in a workspace, on a disk or in shared storage, and result folders."""

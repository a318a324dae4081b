"""What is served on this machine: for now the page that unlocks."""

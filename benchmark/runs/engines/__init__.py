"""Where runs execute: in this process, in workers, on several processes together, on a Ray cluster."""

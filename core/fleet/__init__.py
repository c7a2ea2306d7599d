"""Where models live: the fork server, the workers, their states, and who may use which when."""

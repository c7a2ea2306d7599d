"""Pictures that strangers send: what they are, read within limits, and made into what models are shown."""

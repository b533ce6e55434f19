"""What a server shall have, declared in files: read, compared with what is there, and made so."""

"""Short programs to read, run and copy: `python -m tensorgrad.examples` lists them."""

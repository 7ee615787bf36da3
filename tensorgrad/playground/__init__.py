"""A small network, its data and its training in a page: `python -m tensorgrad playground`.

`settings` says what can be chosen, and checks it; `training` trains a network with these settings;
`program` writes them as a Python program; `server` serves the page in `page/`.
"""

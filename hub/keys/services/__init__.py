"""How the hub calls the services that hold keys and secrets for it: each with the login that a setting names.

Owns logins, addresses and how such a service fails. Refuses to look for a login anywhere else: what the process happens
to find in its environment is not used unless a setting says so.
"""

"""The native dialect: jobs, their events, and assets. Errors are RFC 9457 problem documents."""

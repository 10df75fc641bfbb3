"""The words of Sluicegate: frozen values and their rules, without any I/O."""

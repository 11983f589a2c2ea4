"""How a ledger of one version becomes one of the next. CONTRIBUTING.md says how to add a step."""

"""Ray Data operators: thin adapters around the other rooms. Rows travel as tables of the clips schema + frames."""

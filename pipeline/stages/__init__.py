"""Ray Data operators: thin adapters around the other rooms. Rows travel as Arrow tables of the clips schema + frames."""

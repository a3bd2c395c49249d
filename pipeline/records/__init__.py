"""The books: ids, tables, commit, resume, reconcile."""

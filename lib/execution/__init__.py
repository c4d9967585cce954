"""Who does the work: processes of this machine (joblib), or the workers of a Dask cluster; and on which devices."""

-- The role Grafana reads with: FLYWHEEL_GRAFANA_PASSWORD=... psql -v ON_ERROR_STOP=1 -f role.sql
\getenv password FLYWHEEL_GRAFANA_PASSWORD
\if :{?password}
\else
  do $$ begin raise exception 'set FLYWHEEL_GRAFANA_PASSWORD to the password that the role shall have'; end $$;
  \quit
\endif
select 'create role flywheel_grafana'
where not exists (select from pg_catalog.pg_roles where rolname = 'flywheel_grafana')
\gexec
alter role flywheel_grafana login password :'password';
alter role flywheel_grafana set statement_timeout = '30 s';
alter role flywheel_grafana set default_transaction_read_only = on;
grant flywheel_reader to flywheel_grafana;

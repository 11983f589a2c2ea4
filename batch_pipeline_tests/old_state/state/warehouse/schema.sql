CREATE SCHEMA metrics;
CREATE SCHEMA promoted;
CREATE TABLE metrics.gates(workload VARCHAR NOT NULL, "load" VARCHAR NOT NULL, fingerprint VARCHAR NOT NULL, promote BOOLEAN NOT NULL, reasons VARCHAR[] NOT NULL, override_reason VARCHAR, decided_at TIMESTAMP NOT NULL);
CREATE TABLE metrics.golden_outcomes(workload VARCHAR NOT NULL, "load" VARCHAR NOT NULL, "key" VARCHAR NOT NULL, tier INTEGER, disposition VARCHAR, correct BOOLEAN NOT NULL);
CREATE TABLE metrics.measures(workload VARCHAR NOT NULL, "load" VARCHAR NOT NULL, measure VARCHAR NOT NULL, numerator DOUBLE, denominator DOUBLE, "value" DOUBLE, fingerprint VARCHAR NOT NULL, measured_at TIMESTAMP NOT NULL);
CREATE TABLE promoted.questions(id VARCHAR, "label" VARCHAR, _tier INTEGER, _model VARCHAR, _batch_id VARCHAR, _load VARCHAR);
CREATE TABLE promoted._promotions(workload VARCHAR, "load" VARCHAR, fingerprint VARCHAR, "rows" BIGINT, override_reason VARCHAR, promoted_at TIMESTAMP);
CREATE VIEW metrics.scorecards AS SELECT workload, "load", max("value") FILTER (WHERE (measure = 'source_rows')) AS source_rows, max("value") FILTER (WHERE (measure = 'coverage')) AS coverage, max("value") FILTER (WHERE (measure = 'validity')) AS validity, max("value") FILTER (WHERE (measure = 'validity_all_tiers')) AS validity_all_tiers, max("value") FILTER (WHERE (measure = 'escalation_rate')) AS escalation_rate, max("value") FILTER (WHERE (measure = 'golden_score')) AS golden_score, max("value") FILTER (WHERE (measure = 'cost_usd')) AS cost_usd, max("value") FILTER (WHERE (measure = 'cost_per_good_row_usd')) AS cost_per_good_row_usd, max("value") FILTER (WHERE (measure = 'cache_hit_rate')) AS cache_hit_rate, max(measured_at) AS measured_at FROM metrics.measures GROUP BY workload, "load";


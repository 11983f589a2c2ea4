COPY metrics.gates FROM 'metrics_gates.csv' (FORMAT 'csv', allow_quoted_nulls false, force_not_null ('workload', 'load', 'fingerprint', 'promote', 'reasons', 'decided_at'), quote '"', delimiter ',', header 1);
COPY metrics.golden_outcomes FROM 'metrics_golden_outcomes.csv' (FORMAT 'csv', allow_quoted_nulls false, force_not_null ('workload', 'load', 'key', 'correct'), quote '"', delimiter ',', header 1);
COPY metrics.measures FROM 'metrics_measures.csv' (FORMAT 'csv', allow_quoted_nulls false, force_not_null ('workload', 'load', 'measure', 'fingerprint', 'measured_at'), quote '"', delimiter ',', header 1);
COPY promoted.questions FROM 'promoted_questions.csv' (FORMAT 'csv', allow_quoted_nulls false, quote '"', delimiter ',', header 1);
COPY promoted._promotions FROM 'promoted__promotions.csv' (FORMAT 'csv', allow_quoted_nulls false, quote '"', delimiter ',', header 1);

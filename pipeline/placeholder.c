extern int mp_pipeline_placeholder; int mp_pipeline_placeholder;

extern int mp_models_placeholder; int mp_models_placeholder;

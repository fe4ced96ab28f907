extern int mp_tasks_placeholder; int mp_tasks_placeholder;

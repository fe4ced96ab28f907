/* How threads wait for each other, and for a core. */
#ifndef MP_CORE_WAITING_H
#define MP_CORE_WAITING_H

/* Runs the program anew, with the same arguments, if libgomp's threads would loop for milliseconds
 * before they sleep: it reads how long from the environment before any code of the program runs. To
 * be called first in main. Does nothing if the user has set it, or if it cannot be. */
void mp_waiting_limit(char **argv);

/* Seconds for which the thread of the process that has waited longest, of those that live, was
 * ready to run without a core; 0 where the system does not say. */
double mp_waiting_seconds(void);

#endif

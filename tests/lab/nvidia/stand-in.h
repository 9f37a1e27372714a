/* SPDX-License-Identifier: GPL-2.0 */
/* What nvidia-uvm and nvidia-modeset take from nvidia, so that it cannot be unloaded while they are there. Returns 0. */
int nvidia_stand_in(void);

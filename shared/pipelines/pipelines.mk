# The operator's pipelines. Each step is one plain pipeline on a line, which 'make -n' shows and a person can
# type. A run stops at the first step that fails, and can be repeated: finished steps change nothing then.
#
#   make -f /usr/share/pve-gpu-tools/Makefile ct-gpu CTID=901 GPU=0000:2c:00.0 VERSION=550.163.01 DRY=1
#
# This file needs GNU Make 4.2 or newer (Debian package make, which Proxmox VE does not install) and bash, and for
# support-bundle the script of that name in the same directory. The Makefile of the sources includes this file.

.PHONY: help status doctor host-vfio host-driver ct-gpu ct-remove vgpu drift support-bundle
.PHONY: drift-versions drift-containers drift-vgpu doctor-versions doctor-containers doctor-vgpu

pipelines      := status doctor host-vfio host-driver ct-gpu ct-remove vgpu drift support-bundle
pipeline_file  := $(lastword $(MAKEFILE_LIST))
pipeline_dir   := $(dir $(pipeline_file))
pipeline_goals := $(filter $(pipelines) drift-% doctor-%,$(MAKECMDGOALS))

help:
	@printf '%s\n' \
		'Usage: make TARGET VARIABLE=VALUE...' '' \
		'  status          Show the GPUs, their drivers, groups and users' \
		'  doctor          Run all checks; show problems and commands that end them' \
		'  host-vfio       Bind a GPU to vfio-pci for VMs, now and at boot' \
		'                  GPU= [GROUP=1] [DRIVER=auto] [NOW=0] [FORCE=display]' \
		'  host-driver     Install the NVIDIA driver on this host' \
		'                  VERSION= [PURGE=1]' \
		'  ct-gpu          Set up containers: GPU, driver libraries, CUDA' \
		'                  CTID= GPU= [VERSION= | LIBS=1] [CUDA=] [STYLE=]' \
		'  ct-remove       Remove these from containers' \
		'                  CTID=' \
		'  vgpu            Assign vGPU profiles to virtual functions' \
		'                  PROFILES= [CONFIG=]' \
		'  drift           Check for drift' \
		'                  [PROFILES=]' \
		'  support-bundle  Collect data for a bug report, without names' \
		'                  [OUT=]' '' \
		'  DRY=1     Show what would change, but change nothing' \
		'  ROOT=     Operate on the system root in this directory' \
		'  EXTRA=    Add options to the main step (add, bind, install --host, apply):' \
		'            EXTRA="--graphics"; PERSIST_EXTRA=, FETCH_EXTRA=, INSTALL_EXTRA=' \
		'            (install --ct) and CUDA_EXTRA= (toolkit) are for the others' \
		'  MIRROR=   Download the installer from here' \
		'  RUNFILE=  Use this installer file instead of VERSION=' '' \
		'  GPU=0000:2c:00.0 (gpu-iommu-groups lists them)  VERSION=550.163.01' \
		'  CUDA=12-4  CTID=901  GPU="0000:2b:00.0 0000:2c:00.0"  CTID="901 902"' '' \
		'make -n TARGET ... shows the commands. If a step fails, read its message,' \
		'then repeat the command. The exit status is 0, or 2 if a step fails,' \
		'whatever the exit status of that step is.'

# --- variables -----------------------------------------------------------------------------------

pipeline_extra := EXTRA PERSIST_EXTRA FETCH_EXTRA INSTALL_EXTRA CUDA_EXTRA
pipeline_vars := GPU GROUP DRIVER NOW FORCE VERSION RUNFILE LIBS PURGE MIRROR CTID CUDA STYLE PROFILES CONFIG OUT DRY ROOT \
	$(pipeline_extra)
pipeline_set  := 0 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m n o p q r s t u v w x y z \
	A B C D E F G H I J K L M N O P Q R S T U V W X Y Z . _ / : , = @ + -
empty :=
space := $(empty) $(empty)

# the rest of $2 without the characters of $1
pipeline_rest  = $(if $1,$(call pipeline_rest,$(wordlist 2,$(words $1),$1),$(subst $(firstword $1),,$2)),$2)
# the characters of the variable $1, which is not expanded, that are not harmless
pipeline_odd   = $(strip $(call pipeline_rest,$(pipeline_set),$(subst $$,dollar!,$(value $1))))
pipeline_blank = $(and $(findstring $(space),$(value $1)),$(filter-out GPU CTID $(pipeline_extra),$1))
pipeline_check = $(if $(call pipeline_odd,$1)$(call pipeline_blank,$1),$(error $1= contains \
	'$(value $1)': only letters, digits and ._/:,=@+- are allowed))

ifneq ($(pipeline_goals),)
# Variables that a shell exports by chance are ignored, except DRY=1.
$(foreach v,$(filter-out DRY,$(pipeline_vars)),$(if $(filter environment,$(origin $v)),$(eval $v :=)))
$(foreach v,$(pipeline_vars),$(call pipeline_check,$v))
# A misspelt DRY=1 must not be a real run.
pipeline_given := $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $v))),$v))
pipeline_given := $(filter-out MAKE% -%,$(pipeline_given))
pipeline_alien := $(filter-out $(pipeline_vars) PREFIX DESTDIR CARGO,$(pipeline_given))
$(if $(pipeline_alien),$(error unknown variable $(firstword $(pipeline_alien))=: try 'make -f \
	$(pipeline_file) help'))
$(foreach v,DRY GROUP NOW PURGE LIBS,$(if $(filter-out 0 1,$($v)),$(error $v= must be 1 or 0, not '$($v)')))
endif

# need NAME,EXAMPLE: a variable that this target requires
pipeline_need = $(if $($1),,$(error $1= is missing: for example, make $@ $2))
pipeline_number = $(foreach id,$($1),$(if $(call pipeline_rest,0 1 2 3 4 5 6 7 8 9,$(id)),$(error $1=$(id) is not a \
	number: for example, $1=901)))
# a line break, between the steps for one container and those for the next
define newline


endef

pipeline_on = $(filter 1,$($1))
pipeline_libs = $(call pipeline_on,LIBS)
comma := ,
root   = $(if $(ROOT),--root $(ROOT))
dry    = $(if $(call pipeline_on,DRY),--dry-run)
opts   = $(strip $(root) $(dry))
driver = $(if $(DRIVER),--driver $(DRIVER))
group  = $(if $(call pipeline_on,GROUP),--group)
force  = $(if $(FORCE),--force $(FORCE))
config = $(if $(CONFIG),--config $(CONFIG))
lister = $(strip gpu-iommu-groups $(GPU) $(root))
# without VERSION= containers get the version of the loaded kernel module
ifneq ($(filter ct-gpu,$(pipeline_goals)),)
ifeq ($(VERSION)$(RUNFILE)$(filter 1,$(LIBS)),)
VERSION := $(shell head -c 32 $(ROOT)/sys/module/nvidia/version 2>/dev/null)
$(call pipeline_check,VERSION)
endif
endif
# the one installer file: downloaded, or named by RUNFILE=
fetcher = $(strip nv-runfile $(if $(RUNFILE),info $(RUNFILE),fetch $(VERSION) $(if $(MIRROR),--mirror $(MIRROR)) $(FETCH_EXTRA) $(opts)))
pipeline_driver = $(if $(RUNFILE),,$(call pipeline_need,VERSION,$1VERSION=550.163.01))
# a version rather than a branch, 'latest' or a URL, whose version only the fetched file tells
pipeline_exact = $(if $(findstring /,$(VERSION)),,$(findstring .,$(VERSION)))
# A check of the result makes sense only after a change.
after  = $(if $(call pipeline_on,DRY),# not in a dry run: )

# --- running a step ------------------------------------------------------------------------------

# What a failed step advises, by its exit status.
pipeline_again = Then repeat the command: finished steps change nothing.
pipeline_next = case $$rc in \
	1) next="the check found a difference or a problem: run the commands in the hints above.";; \
	2) next="usage error or invalid input, nothing was changed: see the message above.";; \
	4) next="refused for safety, nothing was changed: see the hint above. $(pipeline_again)";; \
	127) next="a program is missing: install the package pve-gpu-tools, or build it with make.";; \
	130|143) next="interrupted. $(pipeline_again)";; \
	*) next="the message above names the failure, and what was rolled back. $(pipeline_again)";; esac
pipeline_run = eval "$$0" || { rc=$$?; $(pipeline_next); \
	printf "\n%s: this step failed (exit %s): %s\n%s: %s\n" "$@" $$rc "$$0" "$@" "$$next" >&2; exit $$rc; }

pipeline_parts := drift-versions drift-containers drift-vgpu doctor-versions doctor-containers doctor-vgpu
$(pipelines) $(pipeline_parts): SHELL := /bin/bash
$(pipelines) $(pipeline_parts): .SHELLFLAGS = -o pipefail -c '$(pipeline_run)'

# --- the pipelines -------------------------------------------------------------------------------

# GROUP=1 also binds the other devices of the IOMMU group; NOW=0 waits for the next boot.
host-vfio:
	$(call pipeline_need,GPU,GPU=0000:2c:00.0)
	# At every boot, bind all functions of the slot to vfio-pci before another driver binds them.
	$(lister) | gpu-vfio-bind $(strip persist --cmdline --blacklist $(group) $(driver) $(force) $(PERSIST_EXTRA) $(opts))
ifneq ($(NOW),0)
	# Bind them now, if they are not in use: all functions or none.
	$(lister) | gpu-vfio-bind $(strip bind $(group) $(driver) $(force) $(EXTRA) $(opts))
	# Show current and next-boot drivers.
	gpu-vfio-bind $(strip status $(GPU) $(root))
endif

# PURGE=1 first removes a driver that was installed by other means.
host-driver:
	$(call pipeline_driver)
	# Download and verify the installer, run the pre-flight checks, then run the installer.
	$(fetcher) | nv-runfile $(strip install --host $(if $(call pipeline_on,PURGE),--purge) $(EXTRA) $(opts))
	# Create the device nodes; the driver does not create all of them.
	lxc-gpu-conf $(strip nodes $(opts))
	# Check that versions match, also at the next boot.
	$(after)nv-version-check $(strip --next-boot $(if $(pipeline_exact),--pin $(VERSION)) $(root))

# A stopped container is started, because only inside can the GPU be tested. $1: one container
define ct_gpu_steps
	# Add the GPU's device nodes to container $1, start or restart it if needed, and open the nodes inside.
	$(lister) | lxc-gpu-conf $(strip add $1 --restart --start $(if $(pipeline_libs),--libs) $(if $(STYLE),--style $(STYLE)) $(EXTRA) $(opts))
$(if $(pipeline_libs),,	# Install the driver libraries in the container$(comma) in the version of the host's kernel module.
	$(fetcher) | nv-runfile $(strip install --ct $1 $(INSTALL_EXTRA) $(opts)))
$(if $(CUDA),	# Install the CUDA toolkit without a driver$(comma) with the container's own package manager.
	nv-runfile $(strip toolkit --ct $1 --cuda $(CUDA) $(CUDA_EXTRA) $(opts)))
	# Check the result.
	$(after)lxc-gpu-conf $(strip check $1 $(root))
	$(after)nv-version-check $(strip --ct $1 --no-host $(if $(CUDA),--cuda) $(root))
endef
define ct_remove_steps
	# Remove CUDA's repository from container $1; installed packages remain.
	nv-runfile $(strip toolkit --ct $1 --remove $(opts))
	# Remove the driver's files.
	nv-runfile $(strip uninstall --ct $1 $(opts))
	# Remove the GPU's device nodes; restart the container if it is running.
	lxc-gpu-conf $(strip remove $1 --restart $(opts))
endef

# LIBS=1 gives containers the host's own libraries read-only, instead of installing them.
ct-gpu:
	$(call pipeline_need,CTID,CTID=901 GPU=0000:2c:00.0 VERSION=550.163.01)$(call pipeline_number,CTID)
	$(call pipeline_need,GPU,CTID=$(CTID) GPU=0000:2c:00.0 VERSION=550.163.01)
	$(if $(pipeline_libs),,$(call pipeline_driver,CTID=$(CTID) GPU=$(GPU) ))
	$(foreach id,$(CTID),$(call ct_gpu_steps,$(id))$(newline))

ct-remove:
	$(call pipeline_need,CTID,CTID=901)$(call pipeline_number,CTID)
	$(foreach id,$(CTID),$(call ct_remove_steps,$(id))$(newline))

vgpu:
	$(call pipeline_need,PROFILES,PROFILES=/etc/vgpu-profiles)
	# Assign all profiles or none, and verify them.
	vgpu-profile-set $(strip apply $(PROFILES) $(config) $(EXTRA) $(opts))
	# Check the result. (At every boot: systemctl enable --now vgpu-profile-set.service)
	$(after)vgpu-profile-set $(strip check $(PROFILES) $(config) $(root))

# All checks run, also after one that reports problems.
ifneq ($(filter drift doctor,$(MAKECMDGOALS)),)
MAKEFLAGS += --keep-going
endif
pipeline_profiles = $(or $(PROFILES),$(wildcard $(ROOT)/etc/vgpu-profiles))
drift: drift-versions drift-containers drift-vgpu
drift-versions:
	# Check driver versions: kernels, host, containers.
	nv-version-check $(strip --all-cts $(root))
drift-containers:
	# Check container GPU configuration.
	lxc-gpu-conf $(strip check --all $(root))
drift-vgpu:
ifneq ($(pipeline_profiles),)
	# Check vGPU profiles.
	vgpu-profile-set $(strip check $(pipeline_profiles) $(config) $(root))
endif

# One look: the GPUs of the host, who uses each, and whether a VM can have it.
status:
	# Show the GPUs, their drivers, IOMMU groups and users.
	gpu-iommu-groups $(strip -o table $(root))
	# Show which drivers they will have after the next boot.
	gpu-vfio-bind $(strip status -o table $(root))

# The same checks as drift, as tables, without what is right.
doctor: doctor-versions doctor-containers doctor-vgpu
doctor-versions:
	# Check driver versions: kernels, host, containers.
	nv-version-check $(strip --all-cts --problems -o table $(root))
doctor-containers:
	# Check container GPU configuration.
	lxc-gpu-conf $(strip check --all --quiet -o table $(root))
doctor-vgpu:
ifneq ($(pipeline_profiles),)
	# Check vGPU profiles.
	vgpu-profile-set $(strip check $(pipeline_profiles) --quiet -o table $(config) $(root))
endif

support-bundle:
	# Collect what the tools read and print, without names, addresses, serial numbers and keys.
	$(pipeline_dir)support-bundle $(strip $(if $(OUT),--output $(OUT)) $(opts))

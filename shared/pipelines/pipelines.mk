# The operator's pipelines. Each is one plain pipeline a line, which 'make -n' shows and a person can
# type. They stop at the first step that fails, and can be run again: what is done already stays.
#
#   make -f /usr/share/pve-gpu-tools/Makefile ct-gpu CTID=901 GPU=0000:01:00.0 VERSION=550.163.01 DRY=1
#
# This file needs GNU Make 4.2 or newer (Debian package make, which Proxmox VE does not install) and bash;
# for support-bundle also the script of that name beside it. The Makefile of the sources
# includes it.

.PHONY: help host-vfio host-driver ct-gpu ct-remove vgpu drift drift-versions drift-containers drift-vgpu support-bundle

pipelines      := host-vfio host-driver ct-gpu ct-remove vgpu drift support-bundle
pipeline_file  := $(lastword $(MAKEFILE_LIST))
pipeline_dir   := $(dir $(pipeline_file))
pipeline_goals := $(filter $(pipelines) drift-%,$(MAKECMDGOALS))

help:
	@printf '%s\n' \
		'The pipelines: make TARGET VARIABLE=VALUE...' '' \
		'  host-vfio       GPU= [GROUP=1] [DRIVER=auto] [NOW=0]      hand a GPU to VMs: at every boot, and now' \
		'  host-driver     VERSION= [PURGE=1]                        NVIDIA'\''s driver on this host' \
		'  ct-gpu          CTID= GPU= VERSION= [CUDA=] [STYLE=]' \
		'                                                            a GPU, the driver and CUDA for a container' \
		'  ct-remove       CTID=                                     all of that away again' \
		'  vgpu            PROFILES= [CONFIG=]                       vGPU profiles onto virtual functions' \
		'  drift           [PROFILES=]                               is everything still as it should be?' \
		'  support-bundle  [OUT=]                                    what a maintainer needs to know, scrubbed' '' \
		'  DRY=1    say what would be done, and do nothing' \
		'  ROOT=    work on a recorded machine or a root file system below this directory' \
		'  EXTRA=   more options for the main step (add, bind, install --host, apply), as EXTRA="--graphics";' \
		'           CUDA_EXTRA= for toolkit' \
		'  MIRROR=  where the installer is looked for; RUNFILE= one that is at hand, in place of VERSION=' '' \
		'  GPU=0000:01:00.0 (gpu-iommu-groups shows them)  VERSION=550.163.01  CUDA=12-4  CTID=901' \
		'  GPU="0000:01:00.0 0000:02:00.0" are two.' '' \
		'make -n TARGET ... shows the commands. What fails is named with the way on; then run the same again.' \
		'A pipeline ends with 0, or with 2 where a step fails, whatever that step'\''s own exit status is.'

# --- what may be given ---------------------------------------------------------------------------

pipeline_vars := GPU GROUP DRIVER NOW VERSION RUNFILE PURGE MIRROR CTID CUDA STYLE PROFILES CONFIG OUT DRY ROOT EXTRA CUDA_EXTRA
pipeline_set  := 0 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m n o p q r s t u v w x y z \
	A B C D E F G H I J K L M N O P Q R S T U V W X Y Z . _ / : , = @ + -
empty :=
space := $(empty) $(empty)

# what is left of $2 without the characters of $1
pipeline_rest  = $(if $1,$(call pipeline_rest,$(wordlist 2,$(words $1),$1),$(subst $(firstword $1),,$2)),$2)
# is the variable $1, taken as it is and never expanded, made of harmless characters?
pipeline_odd   = $(strip $(call pipeline_rest,$(pipeline_set),$(subst $$,dollar!,$(value $1))))
pipeline_blank = $(and $(findstring $(space),$(value $1)),$(filter-out GPU EXTRA CUDA_EXTRA,$1))
pipeline_check = $(if $(call pipeline_odd,$1)$(call pipeline_blank,$1),$(error $1= holds \
	'$(value $1)': only letters, digits and ._/:,=@+- may stand there))

ifneq ($(pipeline_goals),)
# what a shell exports by chance is not meant; only DRY=1 counts from there
$(foreach v,$(filter-out DRY,$(pipeline_vars)),$(if $(filter environment,$(origin $v)),$(eval $v :=)))
$(foreach v,$(pipeline_vars),$(call pipeline_check,$v))
# a misspelt DRY=1 must not be a real run
pipeline_given := $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $v))),$v))
pipeline_given := $(filter-out MAKE% -%,$(pipeline_given))
pipeline_alien := $(filter-out $(pipeline_vars) PREFIX DESTDIR CARGO,$(pipeline_given))
$(if $(pipeline_alien),$(error there is no variable $(firstword $(pipeline_alien))=: 'make -f \
	$(pipeline_file) help' lists them))
$(foreach v,DRY GROUP NOW PURGE,$(if $(filter-out 0 1,$($v)),$(error $v= is 1 or 0 and not '$($v)')))
endif

# need NAME,EXAMPLE: a variable that this target cannot do without
pipeline_need = $(if $($1),,$(error $1= is missing: for example, make $@ $2))
pipeline_number = $(if $(call pipeline_rest,0 1 2 3 4 5 6 7 8 9,$($1)),$(error $1=$($1) is no number: \
	for example, $1=901))

pipeline_on = $(filter 1,$($1))
root   = $(if $(ROOT),--root $(ROOT))
dry    = $(if $(call pipeline_on,DRY),--dry-run)
opts   = $(strip $(root) $(dry))
driver = $(if $(DRIVER),--driver $(DRIVER))
config = $(if $(CONFIG),--config $(CONFIG))
lister = $(strip gpu-iommu-groups $(GPU) $(root))
# the one installer file: fetched, or at hand
fetcher = $(strip nv-runfile $(if $(RUNFILE),info $(RUNFILE),fetch $(VERSION) $(if $(MIRROR),--mirror $(MIRROR)) $(opts)))
pipeline_driver = $(if $(RUNFILE),,$(call pipeline_need,VERSION,$1VERSION=550.163.01))
# a version rather than a branch or 'latest'
pipeline_exact = $(findstring .,$(VERSION))
# a look back makes sense only once something was done
after  = $(if $(call pipeline_on,DRY),# not in a dry run: )

# --- how a step is run ---------------------------------------------------------------------------

# The words that a failed step ends with, by its exit status.
pipeline_again = Then run the same again: what is done stays done.
pipeline_next = case $$rc in \
	1) next="it is not as it should be: the hints above say what to do.";; \
	2) next="it was asked for what cannot be done, and did nothing: its message above says why.";; \
	4) next="it refused for safety and did nothing: the hint above names the way round. $(pipeline_again)";; \
	127) next="a program is missing: install the package pve-gpu-tools, or build it with make.";; \
	130|143) next="interrupted. $(pipeline_again)";; \
	*) next="the message above says what stood in the way, and what was undone. $(pipeline_again)";; esac
pipeline_run = eval "$$0" || { rc=$$?; $(pipeline_next); \
	printf "\n%s: this step failed (exit %s): %s\n%s: %s\n" "$@" $$rc "$$0" "$@" "$$next" >&2; exit $$rc; }

$(pipelines) drift-versions drift-containers drift-vgpu: SHELL := /bin/bash
$(pipelines) drift-versions drift-containers drift-vgpu: .SHELLFLAGS = -o pipefail -c '$(pipeline_run)'

# --- the pipelines -------------------------------------------------------------------------------

# GROUP=1 also takes strangers out of its IOMMU group; NOW=0 leaves it to the next boot
host-vfio:
	$(call pipeline_need,GPU,GPU=0000:01:00.0)
	# vfio-pci takes all functions of its slot at every boot, before any other driver does.
	$(lister) | gpu-vfio-bind $(strip persist --cmdline --blacklist $(driver) $(opts))
ifneq ($(NOW),0)
	# And now, if nothing uses them: all functions or none.
	$(lister) | gpu-vfio-bind $(strip bind $(if $(call pipeline_on,GROUP),--group) $(driver) $(EXTRA) $(opts))
	# How it stands now, and after a boot.
	gpu-vfio-bind $(strip status $(GPU) $(root))
endif

# PURGE=1 takes another packaging of the driver away first
host-driver:
	$(call pipeline_driver)
	# NVIDIA's installer into the cache, verified; the host is looked at; then the installer is run.
	$(fetcher) | nv-runfile $(strip install --host $(if $(call pipeline_on,PURGE),--purge) $(EXTRA) $(opts))
	# The device nodes, which the driver does not make by itself.
	lxc-gpu-conf $(strip nodes $(opts))
	# What has which version, and what will the next boot load?
	$(after)nv-version-check $(strip --next-boot $(if $(pipeline_exact),--pin $(VERSION)) $(root))

# A stopped container is started: whether the GPU works is seen inside only
ct-gpu:
	$(call pipeline_need,CTID,CTID=901 GPU=0000:01:00.0 VERSION=550.163.01)$(call pipeline_number,CTID)
	$(call pipeline_need,GPU,CTID=$(CTID) GPU=0000:01:00.0 VERSION=550.163.01)
	$(call pipeline_driver,CTID=$(CTID) GPU=$(GPU) )
	# Container $(CTID) gets the GPU's nodes; it is restarted or started where that is needed, until they open inside.
	$(lister) | lxc-gpu-conf $(strip add $(CTID) --restart --start $(if $(STYLE),--style $(STYLE)) $(EXTRA) $(opts))
	# Inside, the same driver as the host's kernel module, from the one installer file.
	$(fetcher) | nv-runfile $(strip install --ct $(CTID) $(opts))
ifneq ($(CUDA),)
	# CUDA's toolkit inside, by the container's own package manager and without a driver.
	nv-runfile $(strip toolkit --ct $(CTID) --cuda $(CUDA) $(CUDA_EXTRA) $(opts))
endif
	# Does all of it hold?
	$(after)lxc-gpu-conf $(strip check $(CTID) $(root))
	$(after)nv-version-check $(strip --ct $(CTID) --no-host $(if $(CUDA),--cuda) $(root))

ct-remove:
	$(call pipeline_need,CTID,CTID=901)$(call pipeline_number,CTID)
	# CUDA's repository out of container $(CTID); installed packages stay.
	nv-runfile $(strip toolkit --ct $(CTID) --remove $(opts))
	# The driver's files.
	nv-runfile $(strip uninstall --ct $(CTID) $(opts))
	# The GPU's nodes; the container is restarted if it runs.
	lxc-gpu-conf $(strip remove $(CTID) --restart $(opts))

vgpu:
	$(call pipeline_need,PROFILES,PROFILES=/etc/vgpu-profiles)
	# All profiles or none: held against the cards, written, read back.
	vgpu-profile-set $(strip apply $(PROFILES) $(config) $(EXTRA) $(opts))
	# Is it as the file says? (At every boot: systemctl enable --now vgpu-profile-set.service)
	$(after)vgpu-profile-set $(strip check $(PROFILES) $(config) $(root))

# Each is looked at, also where one before has something to say
ifneq ($(filter drift,$(MAKECMDGOALS)),)
MAKEFLAGS += --keep-going
endif
pipeline_profiles = $(or $(PROFILES),$(wildcard $(ROOT)/etc/vgpu-profiles))
drift: drift-versions drift-containers drift-vgpu
drift-versions:
	# Driver versions: kernels, host, containers.
	nv-version-check $(strip --all-cts $(root))
drift-containers:
	# What containers are given.
	lxc-gpu-conf $(strip check --all $(root))
drift-vgpu:
ifneq ($(pipeline_profiles),)
	# vGPU profiles.
	vgpu-profile-set $(strip check $(pipeline_profiles) $(config) $(root))
endif

support-bundle:
	# What the tools read and what they say, without names, addresses, serial numbers and keys.
	$(pipeline_dir)support-bundle $(strip $(if $(OUT),--output $(OUT)) $(opts))

"""The three groups of support staff: Support viewer, Support and Support lead."""

from django.contrib.auth.management import create_permissions
from django.db import migrations

VIEW = ("view_managerrecord", "view_node", "view_recoveryrun", "view_usergate", "view_refusal")
GROUPS = {
    "Support viewer": VIEW,
    "Support": (*VIEW, "recover_user"),
    "Support lead": (*VIEW, "recover_user", "reset_user", "change_usergate", "drain_node", "view_auditentry"),
}


def make_groups(apps, schema_editor):
    alias = schema_editor.connection.alias
    # Django makes permissions after the last migration, which on a new database is after this one.
    config = apps.get_app_config("connections")
    config.models_module = True
    create_permissions(config, apps=apps, using=alias, verbosity=0)
    config.models_module = None

    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    for name, codenames in GROUPS.items():
        group, _ = Group.objects.using(alias).get_or_create(name=name)
        permissions = Permission.objects.using(alias).filter(
            content_type__app_label="connections", codename__in=codenames
        )
        missing = set(codenames) - set(permissions.values_list("codename", flat=True))
        if missing:
            raise RuntimeError(f"no permission {', '.join(sorted(missing))} for the group {name}")
        group.permissions.add(*permissions)


class Migration(migrations.Migration):
    dependencies = [
        ("connections", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    # Groups are the site's own once they are made: going back leaves them, and who is in them, alone.
    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]
